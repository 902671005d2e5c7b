#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# All tests of this package on the running kernel, as root, in a network and mount namespace of
# their own with an empty bpf file system: nothing of the machine is touched.
set -eu
cd "$(dirname "$0")/.."
bin=$(cd ../../node_modules/.bin && pwd)
exec unshare --net --mount sh -euc '
	ip link set lo up
	mount -t bpf bpf /sys/fs/bpf
	exec "$@"
' sh "$bin/node" "$bin/vitest" run "$@"
