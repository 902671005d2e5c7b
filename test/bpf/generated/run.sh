#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Generated packets through the tc programs and a reference model, in namespaces of their own. Needs root, a kernel
# that allows bpf(), and build/bpf/ipvs_tc.bpf.o: test/bpf/generated/run.sh [--seed N] [--packets N]
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../../.." && pwd)
exec unshare --net --mount -- "$root/node_modules/.bin/node" "$root/test/bpf/generated/run.ts" "$@"
