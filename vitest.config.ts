// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'vitest/config';

// Only tests that need neither root nor a kernel of ours; the others run in the virtual machine
// (test/kernel/, see scripts/test.ts).
// An emulated machine, where IPVS_BPF_CONTRACT=real runs the contracts, is a hundred times slower.
const timeout = process.env.IPVS_BPF_CONTRACT === 'real' ? 240_000 : 20_000;

export default defineConfig({
  test: {
    include: ['test/unit/**/*.test.ts', 'test/contract/**/*.test.ts', 'packages/*/test/unit/**/*.test.ts'],
    testTimeout: timeout,
    hookTimeout: timeout,
    restoreMocks: true,
  },
});
