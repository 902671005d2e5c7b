#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# vm: memory=2048 timeout=600
# libbpf-ts on this kernel, with Debian's libbpf.
exec "$(dirname "$0")/../../packages/libbpf-ts/test/run.sh" --reporter=tap-flat
