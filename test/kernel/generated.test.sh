#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: memory=2048 timeout=600
# Generated packets through the tc programs and through a reference model: as many as fit into a minute.
# Each kernel gets packets of its own, and always the same ones.
set -u

seed=$(uname -r | cksum | cut -d ' ' -f 1)
echo 1..1
"$(dirname "$0")/../bpf/generated/run.sh" --seed "$seed" --seconds 60 2>&1 | sed 's/^/# /'
if [ "${PIPESTATUS[0]}" = 0 ]; then
	echo "ok 1 - generated packets get what the session contract says"
else
	echo "not ok 1 - generated packets get what the session contract says"
fi
