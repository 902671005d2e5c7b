# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What the suites of test/kernel share. A suite is one boot of a virtual machine:
#   npm run vm -- --icount test/kernel/SUITE.test.sh
# Under --icount a pause costs no time: when the guest is idle its clock jumps to the next timer, so
# that connections can be left to their real timeouts. Results are TAP on standard output.

set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 4
. test/net/topology.sh
. test/net/accelerate.sh
. bench/conntrack.sh

tests=0 failures=0
# TAP goes to the standard output that the suite was started with, whatever a case does with its own.
exec 3>&1

# it 'what is expected to happen' COMMAND…: one case. It fails at the first command that fails.
it() {
	local title=$1 output rc
	shift
	tests=$((tests + 1))
	# Not in a condition, where -e would be ignored.
	output=$(
		set -e
		"$@" 2>&1
	)
	rc=$?
	if [ $rc = 0 ]; then
		echo "ok $tests - $title" >&3
		return 0
	fi
	failures=$((failures + 1))
	{
		echo "not ok $tests - $title"
		echo "  ---"
		# shellcheck disable=SC2001 # a sed that indents
		sed 's/^/  /' <<<"exit status $rc: $*"
		sed 's/^/  /' <<<"$output"
		echo "  ..."
	} >&3
}

# A line that is shown with the results: measured numbers, mostly.
note() { echo "# $*" >&3; }

finish() {
	echo "1..$tests" >&3
	[ $failures = 0 ] && exit 0
	exit 1
}

# Assertions. Each prints what it found when it fails.
equal() { # ACTUAL EXPECTED WHAT
	[ "$1" = "$2" ] || {
		echo "${3:-value}: $1, expected $2"
		return 1
	}
}
at_most() { # ACTUAL LIMIT WHAT
	[ "$1" -le "$2" ] || {
		echo "${3:-value}: $1, expected at most $2"
		return 1
	}
}
at_least() {
	[ "$1" -ge "$2" ] || {
		echo "${3:-value}: $1, expected at least $2"
		return 1
	}
}
fails() { # COMMAND…
	! "$@" || {
		echo "succeeded, expected to fail: $*"
		return 1
	}
}

# field NAME JSON: a number, text or flat object in one line of the load tool's output.
field() {
	local rest=${2#*\"$1\":}
	[ "$rest" != "$2" ] || {
		echo "no field $1 in $2" >&2
		return 1
	}
	case $rest in
	\"*) rest=${rest#\"} && echo "${rest%%\"*}" ;;
	\{*) echo "${rest%%\}*}}" ;;
	\[*) echo "${rest%%\]*}]" ;;
	*) rest=${rest%%,*} && echo "${rest%%\}*}" ;;
	esac
}

# The client's side; a request that gets no answer in 5 s has failed.
client_requests() { in_client "$LOAD" requests --timeout-ms 5000 --deadline 900 --who "$@"; }
client_udp() { in_client "$LOAD" udp --timeout-ms 5000 --deadline 900 "$@"; }
client_probe() { in_client "$LOAD" probe --timeout-ms 3000 "$@" || true; }

# answered JSON COUNT: all requests of that answer succeeded.
answered() {
	equal "$(field ok "$1")" true "$1 ok" && equal "$(field answered "$1")" "$2" "$1 answered"
}

connections() { in_director ipvsadm -Lcn | grep -cE '^(TCP|UDP|SCTP)' || true; }

# no_conntrack COMMAND…: runs it, and fails if any conntrack entry was made meanwhile.
no_conntrack() {
	local - status made
	conntrack_count_start
	# Not in a condition, where -e would be ignored.
	set +e
	(
		set -e
		"$@"
	)
	status=$?
	made=$(conntrack_count_stop)
	[ $status = 0 ] || return $status
	equal "$made" 0 "conntrack entries made" || {
		in_director tail -n 20 /proc/net/nf_conntrack
		return 1
	}
}

# What a director with kube-proxy in ipvs mode has: conntrack in use, and MASQUERADE.
masquerade() {
	in_director nft -f - <<-RULES
		table $([ "$NET_IPV6" = 1 ] && echo inet || echo ip) test {
			chain forward {
				type filter hook forward priority filter; policy accept;
				ct state invalid counter
			}
			chain postrouting {
				type nat hook postrouting priority srcnat;
				oifname { "srv1", "srv2" } masquerade
			}
		}
	RULES
	in_director sysctl -qw net.ipv4.vs.conntrack=1
}

# virtual_server -t|-u|--sctp-service PORT SCHEDULER REAL…: real servers as ADDRESS:PORT.
virtual_server() {
	local flag=$1 port=$2 scheduler=$3 real
	shift 3
	in_director ipvsadm -A "$flag" "$vip:$port" -s "$scheduler"
	for real in "$@"; do
		in_director ipvsadm -a "$flag" "$vip:$port" -r "$real" -m
	done
}

# serve_both NS…: what virtual_servers of both protocols stand before.
serve_both() {
	local ns
	for ns in "$@"; do
		net_serve "$ns" 0.0.0.0:8080
		net_serve "$ns" 0.0.0.0:5300 --udp
	done
}
virtual_servers_of_family() {
	virtual_server -t 80 rr "$rip1:8080" "$rip2:8080"
	virtual_server -u 53 rr "$rip1:5300" "$rip2:5300"
}
virtual_servers_of_both() {
	masquerade
	for_families virtual_servers_of_family
}
whitelist_family() {
	whitelist "$vip" 80 tcp 1
	whitelist "$vip" 53 udp 2
}
whitelist_both() { for_families whitelist_family; }

# An open connection that exchanges on demand: hold_open NAME OPTION…; exchange NAME [HOW]; hold_close NAME.
# It lives in files, so that one case can open it and a later one use it. HOLD_IN: who holds it, in_client if not set.
# HOLD_AS: crowd for many of them.
hold_open() {
	local name=$1 answer
	shift
	mkfifo "$NET_RUN/$name.in" "$NET_RUN/$name.out"
	"${HOLD_IN:-in_client}" "$LOAD" "${HOLD_AS:-hold}" --timeout-ms "${HOLD_MS:-3000}" "$@" <"$NET_RUN/$name.in" >"$NET_RUN/$name.out" 2>/dev/null 3>&- &
	exec 8>"$NET_RUN/$name.in" 9<"$NET_RUN/$name.out"
	# A keeper holds the ends open between the cases, which are processes of their own.
	sleep 100000 >&8 <&9 2>/dev/null 3>&- &
	echo $! >"$NET_RUN/$name.keeper"
	read -r answer <&9
	exec 8>&- 9<&-
	equal "$(field ok "$answer")" true "$answer"
}
exchange() {
	local answer
	exec 8>"$NET_RUN/$1.in" 9<"$NET_RUN/$1.out"
	echo "${2:-x}" >&8
	read -r answer <&9
	exec 8>&- 9<&-
	echo "$answer"
	[ "$(field ok "$answer")" = true ] || {
		echo "exchange over $1: $answer" >&2
		return 1
	}
}
hold_close() {
	kill "$(cat "$NET_RUN/$1.keeper")"
	rm -f "$NET_RUN/$1".*
}
