// SPDX-License-Identifier: Apache-2.0
/**
 * npm run test:operator [-- KUBECONFIG]: the operator's tests on a real API server, which they write to: one of their
 * own, which goes again afterwards, or the one of that kubeconfig.
 */
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { down, up } from '../test/cluster/cluster.ts';
import { helmBinary } from '../test/cluster/go.ts';
import { layoutOf, statePaths } from '../test/cluster/layout.ts';
import { hashOf, repository } from './cache.ts';
import { inherit, main } from './exec.ts';

const program = new Command('npm run test:operator --')
  .description("Run the operator's tests on a real API server.")
  .argument(
    '[kubeconfig]',
    "an administrator's kubeconfig; left out: a control plane is started for the tests",
  );
const [given] = program.parse().args;

async function test(kubeconfig: string): Promise<void> {
  process.env.IPVS_BPF_TEST_KUBECONFIG = kubeconfig;
  process.env.IPVS_BPF_TEST_HELM = await helmBinary();
  const vitest = join(repository, 'node_modules/vitest/vitest.mjs');
  const config = join(repository, 'test/operator/vitest.config.ts');
  process.exitCode = await inherit(process.execPath, [vitest, 'run', '--config', config], {
    cwd: repository,
  });
}

await main(async () => {
  if (given !== undefined) return await test(resolve(given));
  const layout = layoutOf(hashOf(repository), 'operator');
  try {
    await up(layout, { nodes: 0 });
    await test(statePaths(layout.stateDir).kubeconfig);
  } finally {
    await down(layout);
  }
});
