// SPDX-License-Identifier: Apache-2.0
/** The tests that need a real API server and no node: rules of the CRDs, the chart, the operator's use of it. */
import { down, up } from '../test/cluster/cluster.ts';
import { prometheusBinary } from '../test/cluster/debian.ts';
import { helmBinary, kubernetesBinary } from '../test/cluster/go.ts';
import { layoutOf, statePaths } from '../test/cluster/layout.ts';
import type { TapResult } from '../test/vm/tap.ts';
import { hashOf, repository } from './cache.ts';
import { say } from './exec.ts';
import { vitest } from './vitest.ts';

const suites = [
  { name: 'rules of the CRDs', config: 'test/api/vitest.config.ts' },
  { name: 'chart', config: 'test/chart/vitest.config.ts' },
  { name: 'operator on an API server', config: 'test/operator/vitest.config.ts' },
] as const;

/** Runs them on a control plane of their own, which goes again. */
export async function testOnApiServer(report: (name: string, result: TapResult) => void): Promise<void> {
  const layout = layoutOf(hashOf(repository), 'api');
  try {
    const { kubernetes } = await up(layout, { nodes: 0 });
    const { kubeconfig } = statePaths(layout.stateDir);
    const environment = {
      IPVS_BPF_TEST_HELM: await helmBinary(3),
      IPVS_BPF_TEST_HELM4: await helmBinary(4),
      IPVS_BPF_TEST_PROMETHEUS: await prometheusBinary(),
      IPVS_BPF_TEST_KUBECTL: await kubernetesBinary('kubectl', kubernetes),
      IPVS_BPF_TEST_KUBECONFIG: kubeconfig,
    };
    for (const { name, config } of suites) {
      say(name);
      report(name, await vitest(config, { environment }));
    }
  } finally {
    await down(layout);
  }
}
