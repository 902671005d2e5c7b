#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The unit tests of the tc programs, in network and mount namespaces of their own. Needs root and
# build/bpf/ipvs_tc.bpf.o: npm run vm -- [--kernel 6.12] test/bpf/run.sh [VITEST-ARG...]
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
cd "$root"
exec unshare --net --mount -- "$root/node_modules/.bin/node" node_modules/vitest/vitest.mjs run \
	--config test/bpf/vitest.config.ts "$@"
