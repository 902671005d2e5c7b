#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A node with SERVICES virtual servers and the agent on it: agent-guest.sh SERVICES REPEATS. Prints one line of JSON.
set -euo pipefail
cd "$(dirname "$0")/.."
. test/net/topology.sh
. bench/ipvs-bpf.sh

services=$1
repeats=$2
guest() { node_modules/.bin/node bench/agent-guest.ts "$@"; }

net_up
ip netns add pods
guest links "$services" | ip -batch -
guest table "$services" | ipvsadm -R
echo "$(ipvsadm -Sn | grep -c '^-A') virtual servers, $(ip -o link show | wc -l) interfaces" >&2
awake guest measure "$services" "$repeats"
