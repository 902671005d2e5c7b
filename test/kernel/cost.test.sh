#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: icount=yes timeout=900
# Instructions a short request costs on the director, accelerated and natively; `npm run bench` has more.
. "$(dirname "$0")/../net/suite.sh"
. bench/paths.sh

instructions() { # TO
	local answer
	answer=$(in_client "$LOAD" requests --to "$1" --count 500 --warmup 300 --deadline 300)
	sleep 130
	[ "$(field answered "$answer")" = 500 ] && field nsPerRequest "$answer"
}

is_at_most_half() { # BASE NATIVE ACCELERATED
	local native=$(($2 - $1)) accelerated=$(($3 - $1))
	note "of the director: native $native, accelerated $accelerated instructions a request"
	at_most $((accelerated * 2)) "$native" "twice the instructions"
}

net_up
net_serve rs1 "0.0.0.0:$bench_port" --sequential
base=$(instructions "$direct_rip:$bench_port")
insert_stock_module
kube_ipvs_rules
ipvs_virtual_server
native=$(instructions "$vip:$port")
in_director ipvsadm -C
remove_modules

# The agent attaches the programs to the client's side as well.
accelerate
attach cli
ipvs_virtual_server
whitelist "$vip" "$port" tcp 1
accelerated=$(instructions "$vip:$port")
it 'costs at most half of what native IPVS with conntrack and MASQUERADE does' \
	is_at_most_half "$base" "$native" "$accelerated"
it 'makes no conntrack entry beside the rules of kube-proxy' \
	no_conntrack client_requests --to "$vip:$port" --count 20
finish
