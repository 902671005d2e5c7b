// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/compile.ts'],
    testTimeout: 60_000,
    // Pins and the network namespace are shared: one file after another. One process for all, because
    // starting one takes seconds on an emulated machine.
    fileParallelism: false,
    isolate: false,
  },
});
