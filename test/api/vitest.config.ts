// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: { include: ['test/api/**/*.test.ts'], testTimeout: 30_000, hookTimeout: 60_000 },
});
