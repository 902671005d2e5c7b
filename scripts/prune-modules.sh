#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Leaves of a node_modules folder only what dist/ does not hold itself: the pinned Node, and the packages with
# native code and what they load: scripts/prune-modules.sh FOLDER
set -eu

cd "$1"
for entry in * .bin/* .[!.]*; do
	case $entry in
	.bin | .bin/node | koffi | @koromix | netlink | node-gyp-build | node-linux-*) ;;
	*) rm -rf "$entry" ;;
	esac
done
rm -rf node-linux-*/include node-linux-*/share
# dist/ does without: fail here and not on a node
.bin/node -e 'require(process.cwd() + "/koffi"); require(process.cwd() + "/netlink")'
