#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the tools of the topologies, statically, into build/test: load (traffic), maps (eBPF maps) and proxy
# (what kube-proxy does to IPVS).
# Does nothing for one whose sources are the same as last time.
set -eu
cd "$(dirname "$0")/../.."
out=build/test
mkdir -p "$out"
for tool in load maps proxy; do
	sum=$(cat "test/net/$tool"/*.[ch] | sha256sum | cut -d' ' -f1)
	if [ -x "$out/$tool" ] && [ "$(cat "$out/$tool.sha256" 2>/dev/null)" = "$sum" ]; then
		continue
	fi
	# Into a file of its own first: an interrupted compiler leaves nothing that looks finished.
	"${CC:-gcc}" -static -O2 -std=gnu11 -Wall -Wextra -Werror -o "$out/$tool.$$" "test/net/$tool"/*.c \
		-lbpf -lelf -lz
	mv "$out/$tool.$$" "$out/$tool"
	echo "$sum" >"$out/$tool.sha256"
done
