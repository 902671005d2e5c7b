# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Counts conntrack entries that are *made*, in all network namespaces: how often the kernel
# allocates one. What `conntrack -C` shows is only what is left.

tracing=/sys/kernel/tracing

conntrack_count_start() {
	[ -e "$tracing/kprobe_events" ] || mount -t tracefs tracefs "$tracing"
	# conntrack is a module here; without it there is nothing to count.
	if ! grep -q "^nf_conntrack " /proc/modules; then
		conntrack_symbol=
		return 0
	fi
	conntrack_symbol=$(awk '$3 ~ /^__nf_conntrack_alloc(\.|$)/ { print $3; exit }' /proc/kallsyms)
	[ -n "$conntrack_symbol" ] || {
		echo "conntrack: no symbol __nf_conntrack_alloc to count" >&2
		return 1
	}
	echo "p:ipvs_bpf/conntrack_made $conntrack_symbol" >>"$tracing/kprobe_events"
	echo 1 >"$tracing/events/ipvs_bpf/conntrack_made/enable"
}

# Prints the number since conntrack_count_start.
conntrack_count_stop() {
	if [ -z "$conntrack_symbol" ]; then
		echo 0
		return 0
	fi
	awk '$1 == "conntrack_made" { print $2; found = 1 } END { exit !found }' "$tracing/kprobe_profile"
	echo 0 >"$tracing/events/ipvs_bpf/conntrack_made/enable"
	echo "-:ipvs_bpf/conntrack_made" >>"$tracing/kprobe_events"
}
