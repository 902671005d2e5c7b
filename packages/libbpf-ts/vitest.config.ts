// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/compile.ts'],
    testTimeout: 60_000,
    // Programs, pins and the network namespace are shared: one file after another.
    fileParallelism: false,
  },
});
