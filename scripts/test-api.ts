// SPDX-License-Identifier: Apache-2.0
/** npm run test:api: the rules of the CRDs against a real API server of its own, which goes again afterwards. */
import { join } from 'node:path';
import { down, up } from '../test/cluster/cluster.ts';
import { kubernetesBinary } from '../test/cluster/go.ts';
import { layoutOf, statePaths } from '../test/cluster/layout.ts';
import { hashOf, repository } from './cache.ts';
import { inherit, main } from './exec.ts';

await main(async () => {
  const layout = layoutOf(hashOf(repository), 'crd-rules');
  try {
    const { kubernetes } = await up(layout, { nodes: 0 });
    process.env.KUBECTL = await kubernetesBinary('kubectl', kubernetes);
    process.env.KUBECONFIG = statePaths(layout.stateDir).kubeconfig;
    const vitest = join(repository, 'node_modules/vitest/vitest.mjs');
    const config = join(repository, 'test/api/vitest.config.ts');
    process.exitCode = await inherit(process.execPath, [vitest, 'run', '--config', config], {
      cwd: repository,
    });
  } finally {
    await down(layout);
  }
});
