#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A node with SERVICES virtual servers and the agent on it: agent-guest.sh SERVICES REPEATS. Prints one line of JSON.
# What it needs is made before it boots, by agent-files.ts: all that runs here runs slowly.
set -euo pipefail
cd "$(dirname "$0")/.."
. test/net/topology.sh
. bench/ipvs-bpf.sh

services=$1
repeats=$2
files=build/bench

net_up
ip netns add pods
ip -batch "$files/links-$services"
ipvsadm -R <"$files/table-$services"
echo "$(wc -l </proc/net/ip_vs) lines in /proc/net/ip_vs" >&2
awake "$files/node" --disable-warning=ExperimentalWarning "$files/agent-guest.mjs" "$services" "$repeats"
