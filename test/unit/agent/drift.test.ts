// SPDX-License-Identifier: Apache-2.0
/** What somebody else changes on an accelerated node, and a kube-proxy that comes back. */
import { beforeEach, describe, expect, it } from 'vitest';
import type { KubernetesAgent } from '../../../src/agent/kubernetes.ts';
import { api, disk, freshScene, look, MODE, modeOf, node, SYSCTL, started } from './scene.ts';

beforeEach(freshScene);

describe('drift', () => {
  it('is put right and told', async () => {
    const agent = await started();
    await look(agent, 2);
    node.machine.host.control(MODE, '0');
    await look(agent);
    expect(modeOf()).toBe('1');
    const drifted = api.status?.conditions?.find(({ type }) => type === 'Drifted');
    expect(drifted?.message).toContain('setSwitch on');
  });

  it('is only told if the policy says so', async () => {
    api.edit({ driftPolicy: 'Report' });
    const agent = await started();
    await look(agent, 2);
    node.machine.host.control(SYSCTL, '0');
    await look(agent);
    expect(node.machine.host.sysctls.get(SYSCTL)).toBe('0');
    expect(api.condition('Drifted')).toBe('True SysctlChanged');
    api.edit({ ipvs: { expireNodestConn: 1, connReuseMode: 0 } });
    await look(agent);
    expect(node.machine.host.sysctls.get(SYSCTL)).toBe('1');
  });
});

describe('a restart of kube-proxy', () => {
  const drifted = () => api.status?.conditions?.find(({ type }) => type === 'Drifted');
  const sysctl = () => node.machine.host.sysctls.get(SYSCTL);
  const overwrite = () => node.machine.host.control(SYSCTL, '0');
  const restart = (from = 4711, to = 4712) => {
    node.machine.kubeProxy.end(from);
    node.machine.kubeProxy.start(to);
  };
  let agent: KubernetesAgent;
  beforeEach(async () => {
    agent = await started();
    await look(agent);
  });

  it('that wrote over a sysctl is put right and told', async () => {
    restart();
    overwrite();
    await look(agent);
    expect(sysctl()).toBe('1');
    expect(api.condition('Drifted')).toBe('False InSync');
    expect(drifted()?.message).toMatch(
      /^kube-proxy restarted at \S+Z and changed .*expire_nodest_conn.* It was put right at \S+Z\.$/,
    );
    const { message } = drifted() ?? {};
    await node.ports.clock.sleep(61_000);
    await look(agent, 3);
    expect(drifted()?.message).toBe(message);
  });

  it('is only told if the policy says so, for as long as it lasts and by whatever agent', async () => {
    api.edit({ driftPolicy: 'Report' });
    await look(agent);
    restart();
    overwrite();
    await look(agent);
    expect(api.condition('Drifted')).toBe('True KubeProxyRestarted');
    expect(drifted()?.message).toMatch(/^kube-proxy restarted at \S+Z and changed .*expire_nodest_conn/);
    const { writes } = api;
    await node.ports.clock.sleep(50_000);
    await look(agent);
    expect(api.writes).toBe(writes);
    await node.ports.clock.sleep(600_000);
    await look(agent);
    await look(await started());
    expect(api.condition('Drifted')).toBe('True KubeProxyRestarted');
    expect(sysctl()).toBe('0');
  });

  it('that changed nothing leaves the node in sync, and says that it was looked at', async () => {
    restart();
    node.machine.calls.reset();
    await look(agent);
    expect(node.machine.calls.changes).toEqual([]);
    expect(api.condition('Drifted')).toBe('False InSync');
    expect(drifted()?.message).toMatch(/^kube-proxy restarted at \S+Z; its settings were checked/);
    const { writes } = api;
    await node.ports.clock.sleep(61_000);
    await look(agent, 3);
    expect(api.condition('Drifted')).toBe('False InSync');
    expect(drifted()?.message).toMatch(/^kube-proxy restarted at /);
    expect(api.writes).toBe(writes);
  });

  it('may be seen before it writes its sysctls', async () => {
    restart();
    await look(agent);
    await node.ports.clock.sleep(5_000);
    overwrite();
    await look(agent);
    expect(sysctl()).toBe('1');
    expect(drifted()?.message).toMatch(/^kube-proxy restarted at .* It was put right at /);
  });

  it('is no reason for what changes later', async () => {
    api.edit({ driftPolicy: 'Report' });
    restart();
    await look(agent);
    await node.ports.clock.sleep(61_000);
    await look(agent);
    overwrite();
    await look(agent);
    expect(api.condition('Drifted')).toBe('True SysctlChanged');
  });

  it('is seen when it comes back, not when it goes', async () => {
    const { message } = drifted() ?? {};
    node.machine.kubeProxy.end(4711);
    await look(agent, 2);
    expect(drifted()?.message).toBe(message);
    node.machine.kubeProxy.start(4712);
    overwrite();
    await look(agent);
    expect(drifted()?.message).toMatch(/^kube-proxy restarted at /);
    expect(sysctl()).toBe('1');
  });

  it('is seen by an agent that was not there, but not after a reboot', async () => {
    api.edit({ driftPolicy: 'Report' });
    await look(agent);
    restart();
    overwrite();
    const later = await started();
    await look(later);
    expect(api.condition('Drifted')).toBe('True KubeProxyRestarted');
    node.machine.host.boot = 'another-boot';
    await look(await started());
    expect(api.condition('Drifted')).toBe('True SysctlChanged');
  });

  it('gives way to what is worse', async () => {
    api.edit({ driftPolicy: 'Report' });
    await look(agent);
    restart();
    overwrite();
    node.machine.host.control(MODE, '0');
    await look(agent);
    expect(api.condition('Drifted')).toBe('True SwitchChanged');
  });

  it('is not said to be put right while a check keeps the agent from it', async () => {
    restart();
    overwrite();
    node.machine.kubeProxy.proxyMode = 'nftables';
    await look(agent);
    expect(sysctl()).toBe('0');
    expect(api.condition('Drifted')).toBe('True KubeProxyRestarted');
    expect(api.condition('PreflightPassed')).toBe('False ProxyModeNotIpvs');
    node.machine.kubeProxy.proxyMode = 'ipvs';
    await look(agent);
    expect(sysctl()).toBe('1');
    expect(api.condition('Drifted')).toBe('False InSync');
  });

  it('between two exchanges leaves nothing stopped', async () => {
    restart();
    api.edit({ action: 'Revert', revision: 'native' });
    api.edit({ disruptionGrant: { revision: 'native', expiresAt: '2026-01-02T04:00:00Z' } });
    node.machine.calls.reset();
    await look(agent);
    expect(node.machine.calls.changes).toContain('kubeProxy.freeze 4712');
    expect(await node.machine.kubeProxy.frozen()).toEqual([]);
    expect(disk.memory).toEqual({});
  });
});
