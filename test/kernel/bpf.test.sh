#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# vm: memory=2048 timeout=1200 kernels=6.1
# The tc programs, packet by packet, through BPF_PROG_RUN.
exec "$(dirname "$0")/../bpf/run.sh" --reporter=tap-flat
