// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'vitest/config';

// On a cluster of two virtual machines, which all files share; an emulated machine takes its time.
export default defineConfig({
  test: {
    root: `${import.meta.dirname}/../..`,
    include: ['test/e2e/**/*.test.ts'],
    globalSetup: ['test/e2e/cluster.ts'],
    fileParallelism: false,
    reporters: ['default', `${import.meta.dirname}/progress.ts`],
    testTimeout: 900_000,
    hookTimeout: 600_000,
  },
});
