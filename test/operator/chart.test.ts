// SPDX-License-Identifier: Apache-2.0
/** What a real API server says of everything that the chart renders. */
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { run } from '../../scripts/exec.ts';
import { CHART, EVERYTHING, RELEASE } from '../chart/helm.ts';
import { MONITORING } from '../prometheus/definitions.ts';
import { connect, DEFINITIONS, eventually, kubeconfigFile, NAMESPACE } from './api-server.ts';

const kubectl = process.env.IPVS_BPF_TEST_KUBECTL ?? 'kubectl';
const helms = [
  ['helm 3', process.env.IPVS_BPF_TEST_HELM ?? 'helm'],
  ['helm 4', process.env.IPVS_BPF_TEST_HELM4 ?? 'helm'],
] as const;
const where = ['--kubeconfig', kubeconfigFile() ?? ''];
const ENFORCE = 'pod-security.kubernetes.io/enforce';
const MONITORED = ['--set', 'metrics.serviceMonitor.enabled=true'];

/** The objects that the API server would take, "job.batch/name"; rejects with what it refuses. */
async function dryRun(manifests: string): Promise<readonly string[]> {
  const apply = ['apply', '--server-side', '--force-conflicts', '--dry-run=server', '-f', '-'];
  const answer = await run(kubectl, [...apply, ...where], { input: manifests });
  return answer
    .trim()
    .split('\n')
    .map((line) =>
      / \(server dry run\)$/.test(line) ? (line.split(' ')[0] ?? '') : `not a dry run: ${line}`,
    );
}

/** An upgrade that changes nothing: what helm would apply, the next steps included. */
function upgrade(helm: string, ...args: readonly string[]): Promise<string> {
  const release = ['upgrade', RELEASE, CHART, '--install', '--namespace', NAMESPACE];
  return run(helm, [...release, '--dry-run=server', '--take-ownership', ...where, ...args]);
}

/** The policies in the examples of a page, as they are given to "kubectl apply -f -". */
function policiesIn(page: string): readonly string[] {
  return [...page.matchAll(/<<'?EOF'?\n(.*?)\n *EOF$/gms)].map(([, text = '']) => {
    const indent = /^ */.exec(text)?.[0] ?? '';
    return text.replaceAll(new RegExp(`^${indent}`, 'gm'), '');
  });
}

describe.each(helms)('the chart, installed by %s', (_, helm) => {
  const { cluster, config } = connect();

  afterEach(async () => {
    for (const { metadata } of MONITORING) await cluster.delete(DEFINITIONS, metadata);
  });

  afterAll(async () => {
    await config.close();
  });

  async function define(): Promise<void> {
    const definitions = MONITORING.map((definition) => JSON.stringify(definition));
    await run(kubectl, ['apply', '-f', '-', ...where], { input: definitions.join('\n---\n') });
    for (const { metadata } of MONITORING) {
      await eventually(() => run(kubectl, ['get', metadata.name, ...where]));
    }
  }

  it('is accepted with every option on, hooks included', async () => {
    await define();
    const template = ['template', RELEASE, CHART, '--namespace', NAMESPACE, '--kube-version', '1.34.4'];
    for (const args of [[], ['--values', EVERYTHING]]) {
      const manifests = await run(helm, [...template, ...args]);
      const taken = await dryRun(manifests);
      expect(taken).toHaveLength(manifests.match(/^kind: /gm)?.length ?? 0);
      expect(taken.filter((name) => !name.includes('/'))).toEqual([]);
      expect(taken).toContain('job.batch/ipvs-bpf-uninstall');
    }
  });

  it('says which value needs the Prometheus operator where it is not there, and takes it where it is', async () => {
    await expect(upgrade(helm, ...MONITORED)).rejects.toThrow(
      'metrics.serviceMonitor.enabled is true, but the cluster does not serve monitoring.coreos.com/v1',
    );
    await define();
    expect(await upgrade(helm, ...MONITORED)).toContain('kind: ServiceMonitor');
  });

  it('says the next step, and the policy in it is accepted', async () => {
    const notes = (await upgrade(helm)).split('NOTES:')[1] ?? '';
    expect(notes).toContain(`the operator is in namespace ${NAMESPACE} (2 replicas)`);
    expect(notes).not.toContain('WARNING');
    expect(notes).toContain(`helm uninstall ${RELEASE} --namespace ${NAMESPACE}`);
    const [policy = ''] = policiesIn(notes);
    expect(policy).toContain('mode: DryRun');
    const named = policy.replace('NAMESPACE', 'default').replace('SERVICE', 'web');
    expect(await dryRun(named)).toEqual(['ipvsbpfpolicy.ipvs-bpf.io/default']);
  });

  it('warns where Pod Security would keep agents out', async () => {
    const label = (value: string) =>
      run(kubectl, ['label', 'namespace', NAMESPACE, '--overwrite', `${ENFORCE}${value}`, ...where]);
    await label('=restricted');
    try {
      expect(await upgrade(helm)).toContain(
        `WARNING: namespace ${NAMESPACE} enforces Pod Security "restricted"`,
      );
    } finally {
      await label('-');
    }
  });
});
