// SPDX-License-Identifier: Apache-2.0
/** Before the tests: this checkout's chart, installed by helm as users install it. */
import { join } from 'node:path';
import { run } from '../../scripts/exec.ts';
import { connect, kubeconfigFile, NAMESPACE, waitForDefinitions } from './api-server.ts';

export async function setup(): Promise<void> {
  const helm = process.env.IPVS_BPF_TEST_HELM ?? 'helm';
  const chart = join(import.meta.dirname, '../../charts/ipvs-bpf');
  const install = ['upgrade', 'ipvs-bpf', chart, '--install', '--create-namespace', '--take-ownership'];
  await run(helm, [...install, '--kubeconfig', kubeconfigFile() ?? '', '--namespace', NAMESPACE]);
  const { cluster, config } = connect();
  await waitForDefinitions(cluster);
  await config.close();
}
