# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0

# awake COMMAND…: runs it beside something that keeps the processor busy. Under -icount an idle
# guest's clock jumps ahead, also while it only waits for a file of the host: every timeout of the
# agent would be over at once.
awake() {
	local busy status=0
	nice -n 19 sh -c 'while :; do :; done' &
	busy=$!
	"$@" || status=$?
	kill "$busy"
	wait "$busy" 2>/dev/null || true
	return "$status"
}
