// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'vitest/config';

// With real helm and Prometheus: IPVS_BPF_TEST_HELM, IPVS_BPF_TEST_HELM4 and IPVS_BPF_TEST_PROMETHEUS name the programs.
// No API server is asked.
export default defineConfig({
  test: {
    root: `${import.meta.dirname}/../..`,
    include: ['test/chart/**/*.test.ts'],
    // Each test runs helm several times, or a Prometheus, on a machine that may be busy.
    testTimeout: 240_000,
    hookTimeout: 240_000,
  },
});
