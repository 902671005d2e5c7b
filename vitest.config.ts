// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'vitest/config';

// Only tests that need neither root nor a kernel of ours; the others run in the virtual machine
// (test/kernel/, see scripts/test.ts).
export default defineConfig({
  test: {
    include: ['test/unit/**/*.test.ts', 'test/contract/**/*.test.ts', 'packages/*/test/unit/**/*.test.ts'],
    testTimeout: 20_000,
    restoreMocks: true,
  },
});
