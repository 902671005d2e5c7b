// SPDX-License-Identifier: Apache-2.0
/** The node of scene.ts with module.activation NextBoot and no grant yet. */
import type { KubernetesAgent } from '../../../src/agent/kubernetes.ts';
import type { NodeSpec } from '../../../src/api/resources.ts';
import { reboot } from '../../fakes/fake-machine.ts';
import { SPEC } from './one-node.ts';
import { api, freshScene, look, node, started } from './scene.ts';

const AT_BOOT: Partial<NodeSpec> = { module: { activation: 'NextBoot' } };
export const NO_GRANT: Partial<NodeSpec> = {
  disruptionGrant: { revision: 'r0', expiresAt: '2026-01-02T04:00:00Z' },
};
export const GRANT: Partial<NodeSpec> = { disruptionGrant: SPEC.disruptionGrant as never };
export const REVERT: Partial<NodeSpec> = {
  action: 'Revert',
  revision: 'native',
  disruptionGrant: { revision: 'native', expiresAt: '2026-01-02T04:00:00Z' },
};

export let agent: KubernetesAgent;

/** What the files for the next boot are like. */
export const boot = () => node.machine.boot.state();

export async function freshBootScene(): Promise<void> {
  freshScene();
  api.edit({ ...AT_BOOT, ...NO_GRANT });
  await restarted();
}

/** Another agent takes over. */
export async function restarted(): Promise<void> {
  agent = await started();
}

export async function booted(trouble?: Parameters<typeof reboot>[1]): Promise<void> {
  reboot(node.machine, trouble);
  await restarted();
  await look(agent, 2);
}
