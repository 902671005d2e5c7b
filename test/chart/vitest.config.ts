// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'vitest/config';

// With real helm: IPVS_BPF_TEST_HELM and IPVS_BPF_TEST_HELM4 name the programs. No API server is asked.
export default defineConfig({
  test: {
    root: `${import.meta.dirname}/../..`,
    include: ['test/chart/**/*.test.ts'],
    // Each test runs helm several times, on a machine that may be busy.
    testTimeout: 240_000,
  },
});
