#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: timeout=1200 kernels=6.12
# module.activation NextBoot: the agent arms a machine, and what a boot does then is done by systemd's own program, with
# modprobe and our script. The kernel stays the same, so that a boot before this one is one by name only. What is tested
# are programs of the host, which are the same with both kernels.
. "$(dirname "$0")/agent.sh"

BOOT=$STATE/boot
LOADER=/lib/systemd/systemd-modules-load
THIS_BOOT=$(cat /proc/sys/kernel/random/boot_id)

# As a boot begins: without an ip_vs, and with what kube-proxy or an administrator adds to it later.
boot() {
	local before
	before=$(table)
	ipvsadm -C
	remove_modules
	"$LOADER"
	ipvsadm -R <<<"$before"
	equal "$(table)" "$before" "virtual servers"
	settings
}

# As agent_director has made them; they end with the module.
settings() {
	ipvsadm --set 800 100 200
	sysctl -qw net.ipv4.vs.sync_retries=3 net.ipv4.vs.conntrack=1
}

in_tree() { modinfo -F srcversion ip_vs; }
patched() { modinfo -F srcversion "$NET_TREE/build/$RELEASE/ip_vs.ko"; }
outcome() { cut -d' ' -f1,2 "$BOOT/outcome"; }
steps_of_up() { agent up --config "$CONFIG" -o json; }

# Nothing of ours is in the kernel any more, but the machine is armed, as it seems in the boot before this one.
armed_before() {
	agent down
	agent_up
	sed -i "1s/$THIS_BOOT/the-boot-before/" "$BOOT/module"
}

arms_and_exchanges_nothing() {
	local json before
	before=$(table)
	json=$(steps_of_up)
	echo "$json"
	equal "$(jq -c '[.waitsForBoot, .connectionsLost]' <<<"$json")" '[true,0]' "waits for a boot, connections lost"
	equal "$(srcversion)" "$(in_tree)" srcversion
	equal "$(table)" "$before" "virtual servers"
	equal "$(stat -c %a "$BOOT" /etc/modprobe.d/ipvs-bpf.conf /etc/modules-load.d/ipvs-bpf.conf | xargs)" '700 644 644' modes
	fails agent_status
	equal "$(steps_of_up | jq -c .steps)" '[]' "steps of a second up"
}

is_loaded_by_a_boot() {
	boot
	equal "$(srcversion)" "$(patched)" srcversion
	equal "$(conn_tab_bits)" 10 conn_tab_bits
	equal "$(outcome)" "$THIS_BOOT Loaded" outcome
	equal "$(cat "$BOOT/attempt")" "$THIS_BOOT" "the boot that began"
	requests
}

goes_on_without_an_exchange() {
	local json
	json=$(steps_of_up)
	echo "$json"
	equal "$(jq -c '[.waitsForBoot, .connectionsLost]' <<<"$json")" '[false,0]' "waits for a boot, connections lost"
	equal "$(jq -c '[.steps[] | select(test("^(removeModule|insertModule|flush)$"))]' <<<"$json")" '[]' "steps of an exchange"
	fails test -e "$BOOT/attempt"
	agent_status
	no_conntrack requests 50
}

is_loaded_when_the_kernel_asks_for_it() {
	armed_before
	local before
	before=$(table)
	ipvsadm -C
	remove_modules
	# ipvsadm runs modprobe, and so does the kernel for the netlink family of kube-proxy.
	ipvsadm -R <<<"$before"
	settings
	equal "$(srcversion)" "$(patched)" srcversion
}

falls_back() { # RESULT COMMAND…: the command is what happened to the machine before it booted
	local result=$1 text rc=0
	shift
	armed_before
	"$@"
	boot
	equal "$(srcversion)" "$(in_tree)" srcversion
	equal "$(outcome)" "$THIS_BOOT $result" outcome
	requests
	text=$(agent_up 2>&1) || rc=$?
	echo "$text"
	equal "$rc" 1 "exit status"
	grep -q "LastBoot: The boot did not load the patched module. $result: " <<<"$text"
}

another_file() { cp "/lib/modules/$RELEASE/modules.dep" "$BOOT/ip_vs.ko"; }
crashed() { echo the-boot-before >"$BOOT/attempt"; }
# Half a module, and a record that fits it.
broken_file() {
	local digest
	truncate -s 4096 "$BOOT/ip_vs.ko"
	digest=$(sha256sum <"$BOOT/ip_vs.ko")
	sed -i "1s/ [0-9a-f]\{64\} / ${digest%% *} /" "$BOOT/module"
}

goes_without_the_directory() {
	armed_before
	rm -r "$BOOT"
	boot
	equal "$(srcversion)" "$(in_tree)" srcversion
}

killed_while_it_arms() { # STEP:MOMENT
	local rc=0
	IPVS_BPF_KILL_AT=$1 agent_up || rc=$?
	equal "$rc" 137 "exit status"
	agent_up
	test -s "$BOOT/module"
	agent down
	same_listing
}

# Options for ip_vs are those of modprobe.d, whichever of the two is loaded.
echo 'options ip_vs conn_tab_bits=10' >/etc/modprobe.d/options.conf
agent_director
net_routes
masquerade
agent_config 'module: {activation: NextBoot}'
listed before
it 'arms the machine and exchanges nothing' arms_and_exchanges_nothing
it 'puts an armed machine back' agent down
it 'leaves nothing behind after down' same_listing
for at in armBoot:before armBoot:applied; do
	it "goes on, and puts the machine back, after it was killed at $at" killed_while_it_arms "$at"
done
it 'arms the machine again' agent_up
it 'has the patched module by a boot' is_loaded_by_a_boot
it 'goes on from there without an exchange' goes_on_without_an_exchange
it 'puts the machine back with an exchange' agent down
it 'leaves nothing behind after down' same_listing
it 'has the patched module when the kernel asks for ip_vs' is_loaded_when_the_kernel_asks_for_it
it "has the kernel's own module where the copy is another file" falls_back DigestMismatch another_file
it "has the kernel's own module after a boot that crashed" falls_back Unconfirmed crashed
it "has the kernel's own module where the kernel refuses the patched one" falls_back InsertFailed broken_file
it "has the kernel's own module where the directory is gone" goes_without_the_directory
it 'puts the machine back' agent down
it 'leaves nothing behind after all' same_listing
finish
