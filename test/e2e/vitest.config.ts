// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { LIFE } from './settings.ts';

/**
 * A file may go on with the policy of the one before, which saves a rollout, and need not. The life of an installation
 * takes another half an hour, and is asked for by name.
 */
const ORDER = LIFE ? ['versions', 'removal'] : ['policy', 'services', 'metrics', 'recovery', 'refusals'];

class InOrder extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification) =>
      ORDER.findIndex((name) => moduleId.endsWith(`/${name}.test.ts`));
    return files.toSorted((a, b) => place(a) - place(b));
  }
}

// On a cluster of two virtual machines, which all files share; an emulated machine takes its time.
export default defineConfig({
  test: {
    root: `${import.meta.dirname}/../..`,
    include: ORDER.map((name) => `test/e2e/${name}.test.ts`),
    globalSetup: ['test/e2e/cluster.ts'],
    fileParallelism: false,
    sequence: { sequencer: InOrder },
    reporters: ['default', `${import.meta.dirname}/progress.ts`],
    testTimeout: 900_000,
    hookTimeout: 600_000,
  },
});
