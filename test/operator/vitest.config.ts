// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'vitest/config';

// On a real API server: IPVS_BPF_TEST_KUBECONFIG names the kubeconfig of its administrator.
export default defineConfig({
  test: {
    root: `${import.meta.dirname}/../..`,
    include: ['test/contract/cluster.test.ts', 'test/operator/**/*.test.ts'],
    globalSetup: ['test/operator/install-chart.ts'],
    // They share one API server, and some take things away from it.
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
