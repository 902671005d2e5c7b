#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: memory=2048 timeout=600
# Generated packets through the tc programs and through a reference model: as many as fit into three quarters of a minute.
# Each kernel gets packets of its own, and always the same ones. Then the same for the programs that call the module.
set -u

seed=$(uname -r | cksum | cut -d ' ' -f 1)

# passes NUMBER OBJECT WHAT
passes() {
	IPVS_BPF_TC_OBJECT=$2 "$(dirname "$0")/../bpf/generated/run.sh" --seed "$seed" --seconds 45 2>&1 | sed 's/^/# /'
	if [ "${PIPESTATUS[0]}" = 0 ]; then
		echo "ok $1 - $3"
	else
		echo "not ok $1 - $3"
	fi
}

echo 1..2
passes 1 ipvs_tc 'generated packets get what the session contract says'
modprobe -a nf_conntrack nf_defrag_ipv6
insmod "build/$(uname -r)/ip_vs.ko"
passes 2 ipvs_tc_kfuncs 'and so by programs that have the module write'
