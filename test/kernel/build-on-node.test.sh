#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: timeout=3600 kernels=6.12 part=life
# The commands of docs/modules.md that build the module on the node itself, for the kernel that it runs: headers and source
# are those of the distribution, as an earlier build has downloaded them, and of the module nothing is there. An
# emulated compiler takes half an hour for what a real one does in a minute.
. "$(dirname "$0")/agent.sh"

INSTALLED=$STATE/modules/$RELEASE
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/ipvs-bpf

# documented HEADING N: the Nth block of commands below this heading of docs/modules.md.
documented() {
	awk -v heading="### $1" -v wanted="$2" '
		$0 == heading { found = 1; next }
		!found { next }
		/^#/ { exit }
		/^```/ { fences++; next }
		fences == 2 * wanted - 1 { print }
	' docs/modules.md
}

forget_the_module() {
	cp "build/$RELEASE/manifest.json" /run/manifest.before
	rm -r "build/$RELEASE" "$CACHE"/modules/*
	fails test -e "$CACHE/modules/$RELEASE"*
}

builds() {
	local commands started=$SECONDS
	# The first block fetches packages, which a machine without a network has to have.
	commands=$(documented 'On the node itself' 2)
	grep -q -- '--kernel running' <<<"$commands"
	bash -euc "$commands"
	note "built on the node in $((SECONDS - started)) s"
}

# But for the checksum: pahole, by as many threads as there are, orders the types of the module by chance.
same_everywhere() { jq 'del(.sha256)' "$1"; }

is_the_same_module() {
	equal "$(find "$INSTALLED" -type f -printf '%f\n' | sort | xargs)" \
		'ip_vs.ko ipvs_bpf_family_id.ko manifest.json' "files"
	equal "$(jq -r .kernelRelease "$INSTALLED/manifest.json")" "$(uname -r)" "kernel of the manifest"
	equal "$(sha256sum <"$INSTALLED/ip_vs.ko" | cut -d' ' -f1)" "$(jq -r .sha256 "$INSTALLED/manifest.json")" sha256
	diff -u <(same_everywhere /run/manifest.before) <(same_everywhere "$INSTALLED/manifest.json")
}

accelerates() {
	agent_up
	equal "$(srcversion)" "$(modinfo -F srcversion "$INSTALLED/ip_vs.ko")" srcversion
	agent_status
	no_conntrack requests 1
}

it 'has nothing of an earlier build of the module' forget_the_module
it 'builds the module for the kernel that runs' builds
it 'gives the three files that a node needs, as built anywhere else' is_the_same_module
agent_director
net_routes
masquerade
agent_config "module: {path: $INSTALLED/ip_vs.ko}"
it 'answers a request on the accelerated path with it' accelerates
it 'puts the machine back' agent down
finish
