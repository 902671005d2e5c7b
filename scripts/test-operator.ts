// SPDX-License-Identifier: Apache-2.0
/**
 * npm run test:operator -- KUBECONFIG: the operator's tests on a real API server, which they write to; for instance
 * on one that `npm run cluster -- up --nodes 0` has started.
 */
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { repository } from './cache.ts';
import { inherit, main } from './exec.ts';

const program = new Command('npm run test:operator --')
  .description("Run the operator's tests on a real API server.")
  .argument('<kubeconfig>', "the administrator's kubeconfig");
const [kubeconfig = ''] = program.parse().args;

await main(async () => {
  const vitest = join(repository, 'node_modules/vitest/vitest.mjs');
  const config = join(repository, 'test/operator/vitest.config.ts');
  process.env.IPVS_BPF_TEST_KUBECONFIG = resolve(kubeconfig);
  process.exitCode = await inherit(process.execPath, [vitest, 'run', '--config', config], {
    cwd: repository,
  });
});
