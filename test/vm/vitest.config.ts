// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'vitest/config';

// Each case boots a machine; on a busy one that takes a while.
export default defineConfig({
  test: { include: ['test/vm/**/*.test.ts'], testTimeout: 180_000, fileParallelism: false },
});
