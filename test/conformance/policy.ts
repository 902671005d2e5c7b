// SPDX-License-Identifier: Apache-2.0
/** The policy of the accelerated half. */
import { run, say } from '../../scripts/exec.ts';

export const policyName = 'conformance';

/** Takes every Service on every node, and all nodes at once: no traffic is in the way yet. */
export function everythingPolicy(): object {
  return {
    apiVersion: 'ipvs-bpf.io/v1alpha1',
    kind: 'IpvsBpfPolicy',
    metadata: { name: policyName },
    spec: {
      mode: 'Enabled',
      nodeSelector: {},
      services: { selector: {} },
      rollout: { maxUnavailable: '100%', canary: { nodes: 0 }, soakSeconds: 0, minReadySeconds: 0 },
    },
  };
}

/** kubectl as administrator; answers what it printed. */
export type Kubectl = (args: readonly string[], input?: string) => Promise<string>;

export function kubectlWith(program: string, kubeconfig: string): Kubectl {
  return (args, input = '') =>
    run(program, ['--kubeconfig', kubeconfig, ...args], { input, timeoutMs: 900_000 });
}

/** @throws Error when there are policies: a native half must not meet any */
export async function requireNoPolicy(kubectl: Kubectl): Promise<void> {
  const crds = await kubectl([
    'get',
    'crd',
    'ipvsbpfpolicies.ipvs-bpf.io',
    '--ignore-not-found',
    '-o',
    'name',
  ]);
  if (crds.trim() === '') return;
  const policies = (await kubectl(['get', 'ipvsbpfpolicy', '-o', 'name'])).trim();
  if (policies !== '') {
    throw new Error(`the cluster has policies, delete them first: ${policies.replaceAll('\n', ', ')}`);
  }
}

/**
 * Applies the policy and waits until all nodes follow it.
 * @throws Error with the state of policy and nodes, after ten minutes or at the signal
 */
export async function applyPolicy(kubectl: Kubectl, signal: AbortSignal): Promise<void> {
  say('applying a policy for every Service on every node');
  await kubectl(['apply', '-f', '-'], JSON.stringify(everythingPolicy()));
  const end = Date.now() + 600_000;
  for (;;) {
    try {
      await kubectl(['wait', '--for=condition=Ready', `ipvsbpfpolicy/${policyName}`, '--timeout=10s']);
      return;
    } catch (error) {
      if (Date.now() < end && !signal.aborted) {
        await new Promise((done) => setTimeout(done, 1000));
        continue;
      }
      const state = await kubectl(['get', 'ipvsbpfpolicy,ipvsbpfnode', '-o', 'wide']);
      throw new Error(`the policy does not become Ready:\n${state}`, { cause: error });
    }
  }
}

/** Deletes the policy; returns when every node is as it was before. */
export async function deletePolicy(kubectl: Kubectl): Promise<void> {
  say('deleting the policy');
  await kubectl(['delete', 'ipvsbpfpolicy', policyName, '--ignore-not-found', '--timeout=600s']);
}

/**
 * Deletes what runs of the suite left behind, for instance those that were ended by force. What stays, as with a pod that
 * does not end, is a fault, and does not hide what became of the tests.
 */
export async function deleteNamespaces(kubectl: Kubectl, runIds: readonly string[]): Promise<string[]> {
  if (runIds.length === 0) return [];
  const selector = `e2e-run in (${runIds.join(',')})`;
  try {
    await kubectl(['delete', 'namespace', '-l', selector, '--ignore-not-found', '--timeout=300s']);
    return [];
  } catch (error) {
    return [`namespaces of the tests stay: ${error instanceof Error ? error.message : String(error)}`];
  }
}
