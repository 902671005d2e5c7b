#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# vm: memory=2048 timeout=900
# The contract that the in-memory ports fulfil, on the adapters and this kernel.
set -eu
cd "$(dirname "$0")/../.."
export IPVS_BPF_CONTRACT=real
exec node_modules/.bin/node node_modules/vitest/vitest.mjs run --reporter=tap-flat \
	--no-file-parallelism --no-isolate --testTimeout=120000 --hookTimeout=120000 test/contract
