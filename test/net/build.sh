#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the load tool, statically, into build/test/load; does nothing if its sources are the same.
set -eu
cd "$(dirname "$0")/../.."
out=build/test
mkdir -p "$out"
sum=$(cat test/net/load/*.[ch] | sha256sum | cut -d' ' -f1)
if [ -x "$out/load" ] && [ "$(cat "$out/load.sha256" 2>/dev/null)" = "$sum" ]; then
	exit 0
fi
# Into a file of its own first: an interrupted compiler leaves nothing that looks finished.
"${CC:-gcc}" -static -O2 -std=gnu11 -Wall -Wextra -Werror -o "$out/load.$$" test/net/load/*.c
mv "$out/load.$$" "$out/load"
echo "$sum" >"$out/load.sha256"
