// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'vitest/config';

// Needs root: programs and maps go into the running kernel. `npm run vm -- test/bpf/run.sh`
export default defineConfig({
  test: {
    include: ['test/bpf/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    fileParallelism: false,
    isolate: false,
  },
});
