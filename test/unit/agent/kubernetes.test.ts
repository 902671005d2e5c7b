// SPDX-License-Identifier: Apache-2.0
/** The agent of a cluster's node: its IpvsBpfNode in, kernel state and status out. */
import { beforeEach, describe, expect, it } from 'vitest';
import type { KubernetesAgent } from '../../../src/agent/kubernetes.ts';
import { PATCHED_SRCVERSION } from '../../fakes/fake-machine.ts';
import { SERVICE, SPEC } from './one-node.ts';
import { api, disk, freshScene, look, MODE, modeOf, node, origin, SYSCTL, started } from './scene.ts';

beforeEach(freshScene);

describe('an IpvsBpfNode', () => {
  it('is applied, reported, and then left alone', async () => {
    const agent = await started();
    await look(agent);
    expect(origin()).toBe(PATCHED_SRCVERSION);
    expect(api.condition('Ready')).toBe('True Accelerating');
    expect(api.condition('Validated')).toBe('True ProbesPassed');
    expect(api.condition('ModulePatched')).toBe('True Loaded');
    expect(api.condition('DatapathAttached')).toBe('True AllHooksAttached');
    expect(api.condition('SysctlsApplied')).toBe('True InSync');
    expect(api.condition('DisruptionPending')).toBe('False NoDisruptionNeeded');
    expect(api.condition('Drifted')).toBe('False InSync');
    expect(api.status).toMatchObject({
      observedGeneration: 1,
      appliedRevision: 'r1',
      attempt: 1,
      services: { accelerated: 1, rejected: 0, virtualServers: 2 },
      lastDisruption: { connectionsDropped: 0, revision: 'r1' },
      kubeProxy: { mode: 'ipvs', version: 'v1.34.4' },
      module: { origin: 'Patched', kfuncs: true, switch: 'On' },
    });
    const { writes } = api;
    node.machine.calls.reset();
    await look(agent, 3);
    expect(api.writes).toBe(writes);
    expect(node.machine.calls.changes).toEqual([]);
  });

  it('is accelerated without kfuncs where the kernel refuses the programs that call them, and says so', async () => {
    const { calls, datapath } = node.machine;
    datapath.refusesKfuncs = true;
    const agent = await started();
    await look(agent);
    expect(api.condition('Ready')).toBe('True Accelerating');
    expect(api.status).toMatchObject({ module: { origin: 'Patched', kfuncs: false, switch: 'On' } });
    calls.reset();
    await look(agent, 3);
    expect(calls.changes).toEqual([]);
    expect(datapath.refusals).toHaveLength(1);
  });

  it('goes on saying which revision its last exchange was made for', async () => {
    const agent = await started();
    await look(agent);
    const before = api.status?.lastDisruption;
    expect(before).toMatchObject({ revision: 'r1' });
    api.edit({ revision: 'r2', disruptionGrant: { revision: 'r2', expiresAt: '2100-01-01T00:00:00Z' } });
    await look(agent);
    expect(api.status).toMatchObject({ appliedRevision: 'r2' });
    expect(api.status?.lastDisruption).toEqual(before);
  });

  it('is observed once where nothing is done, and before and after a change', async () => {
    const agent = await started();
    await look(agent);
    const { calls } = node.machine;
    const observations = () => calls.log.filter((call) => call === 'ipvs.virtualServers').length;
    calls.reset();
    await look(agent);
    expect(observations()).toBe(1);
    api.services = [{ ...SERVICE, nodePorts: [] }];
    calls.reset();
    await look(agent);
    expect(calls.changes).toContain('datapath.removeService 6 192.0.2.1 30080');
    expect(api.status?.services).toMatchObject({ virtualServers: 1 });
    expect(observations()).toBe(2);
  });

  it('waits for the grant, and does not take one that has ended', async () => {
    api.edit({ disruptionGrant: { revision: 'r0', expiresAt: '2026-01-02T04:00:00Z' } });
    const agent = await started();
    await look(agent);
    expect(api.condition('Ready')).toBe('False Waiting');
    expect(api.condition('DisruptionPending')).toBe('True WaitingForGrant');
    api.edit({ disruptionGrant: { revision: 'r1', expiresAt: '2026-01-02T03:04:00Z' } });
    await look(agent);
    expect(api.condition('DisruptionPending')).toBe('True GrantExpired');
    expect(origin()).toBe('INTREEIP_VS');
    expect(api.status?.appliedRevision).toBe('native');
  });

  it('goes on with the old revision, and takes what needs no disruption', async () => {
    const agent = await started();
    await look(agent);
    api.edit({
      revision: 'r2',
      datapath: { ...SPEC.datapath, sessionMapMaxEntries: 8192 },
      ipvs: { expireNodestConn: 0 },
    });
    await look(agent);
    expect(api.status).toMatchObject({ appliedRevision: 'r1', sessionMap: { maxEntries: 4096 } });
    expect(api.condition('DisruptionPending')).toBe('True WaitingForGrant');
    expect(node.machine.host.sysctls.get(SYSCTL)).toBe('0');
    api.edit({ disruptionGrant: { revision: 'r2', expiresAt: '2026-01-02T04:00:00Z' } });
    await look(agent);
    expect(api.status).toMatchObject({ appliedRevision: 'r2', sessionMap: { maxEntries: 8192 } });
    expect(api.condition('Ready')).toBe('True Accelerating');
  });

  describe('with a module in another file', () => {
    const OTHER = '/other/ip_vs.ko';
    const edit = { revision: 'r2', module: { activation: 'Live' as const, path: OTHER } };
    let agent: KubernetesAgent;

    beforeEach(async () => {
      agent = await started();
      await look(agent);
    });

    function deliver(): void {
      const { files } = node.machine.modules;
      const file = files.get(node.machine.patchedModule);
      if (file !== undefined) files.set(OTHER, { ...file, srcversion: 'OTHER' });
    }

    it('keeps the one that it has until it may be disrupted', async () => {
      deliver();
      api.edit(edit);
      api.services = [SERVICE, { ...SERVICE, name: 'other', nodePorts: [] }];
      await look(agent, 3);
      expect(origin()).toBe(PATCHED_SRCVERSION);
      expect(api.status).toMatchObject({ appliedRevision: 'r1', attempt: 1 });
      expect(api.condition('ModulePatched')).toBe('True Loaded');
      expect(api.condition('DisruptionPending')).toBe('True WaitingForGrant');
      api.edit({ disruptionGrant: { revision: 'r2', expiresAt: '2026-01-02T04:00:00Z' } });
      await look(agent);
      expect(origin()).toBe('OTHER');
      expect(api.status?.appliedRevision).toBe('r2');
    });

    it('says what is wrong with that one, and repairs what it has', async () => {
      api.edit(edit);
      await look(agent);
      expect(api.condition('Ready')).toBe('False Waiting');
      expect(api.condition('PreflightPassed')).toBe('False KernelNotMapped');
      node.machine.host.sysctls.set(MODE, '0');
      await look(agent);
      expect(modeOf()).toBe('1');
      expect(origin()).toBe(PATCHED_SRCVERSION);
      expect(api.condition('PreflightPassed')).toBe('False KernelNotMapped');
    });
  });

  it('only looks with action Observe', async () => {
    api.edit({ action: 'Observe' });
    const agent = await started();
    node.machine.calls.reset();
    await look(agent);
    expect(node.machine.calls.changes).toEqual(['memories.write']);
    expect(api.condition('Ready')).toBe('True DryRunPassed');
    expect(api.condition('PreflightPassed')).toMatch(/^True /);
    node.machine.kubeProxy.proxyMode = 'nftables';
    await look(agent);
    expect(api.condition('PreflightPassed')).toBe('False ProxyModeNotIpvs');
    expect(api.condition('Ready')).toBe('False NotAccelerating');
  });

  it('is put back with action Revert', async () => {
    const agent = await started();
    await look(agent);
    api.edit({ action: 'Revert', revision: 'native' });
    await look(agent);
    expect(api.condition('DisruptionPending')).toBe('True WaitingForGrant');
    expect(origin()).toBe(PATCHED_SRCVERSION);
    api.edit({ disruptionGrant: { revision: 'native', expiresAt: '2026-01-02T04:00:00Z' } });
    await look(agent);
    expect(origin()).toBe('INTREEIP_VS');
    expect(api.status?.appliedRevision).toBe('native');
    expect(api.condition('Ready')).toBe('True InTreeAsRequested');
    expect(node.records.isEmpty).toBe(true);
    // The operator may end the agent as soon as it reads this: nothing may be left to do.
    expect(disk.memory).toEqual({});
    expect(await node.machine.ipvs.familyId()).toBe(31);
  });

  it('turns the switch off with mode Disabled, and on again', async () => {
    const agent = await started();
    await look(agent);
    api.edit({ mode: 'Disabled' });
    await look(agent);
    expect(modeOf()).toBe('0');
    expect(api.condition('Ready')).toBe('True DisabledAsRequested');
    api.edit({ mode: 'Enabled' });
    await look(agent);
    expect(modeOf()).toBe('1');
    expect(api.condition('Ready')).toBe('True Accelerating');
  });

  it('follows the whitelist', async () => {
    const agent = await started();
    await look(agent);
    api.services = [];
    node.machine.calls.reset();
    await look(agent);
    expect(await node.machine.datapath.services()).toEqual([]);
    expect(node.machine.calls.changes.some((change) => change.startsWith('modules.'))).toBe(false);
    expect(api.status?.services).toMatchObject({ accelerated: 0, rejected: 0, virtualServers: 0 });
  });

  it('says which Services run on the native path, and why', async () => {
    api.services = [
      {
        ...SERVICE,
        name: 'six',
        virtualServers: [
          { addresses: ['fe80::1'], ports: [{ port: 80, protocol: 'TCP' }], snatMode: 'Always' },
        ],
        nodePorts: [],
      },
      {
        ...SERVICE,
        name: 'gone',
        virtualServers: [
          { addresses: ['10.96.0.99'], ports: [{ port: 80, protocol: 'TCP' }], snatMode: 'Always' },
        ],
        nodePorts: [],
      },
    ];
    await look(await started());
    expect(api.status?.rejectedServices?.map(({ name, reason }) => `${name} ${reason}`)).toEqual([
      'gone NoSuchVirtualServer',
      'six LinkLocalAddress',
    ]);
  });
});

describe('what a pod sees that reaches itself', () => {
  const own = [
    { namespace: 'shop', name: 'web', reason: 'SelfAccessTranslated', sourceAddress: '10.0.0.254' },
  ];
  beforeEach(() => {
    // The pods of the builders' virtual servers are 10.0.0.1 and 10.0.0.2.
    node.machine.links.add({ name: 'cni0', type: 'bridge' }, '10.0.0.254/24');
  });

  it('is told while the node accelerates, with the time since when it has been so', async () => {
    const agent = await started();
    await look(agent);
    expect(api.status?.selfAccess).toMatchObject(own);
    const since = api.status?.selfAccess?.[0]?.since;
    const { writes } = api;
    await node.ports.clock.sleep(30_000);
    await look(agent);
    await look(await started());
    expect(api.writes).toBe(writes);
    api.edit({ mode: 'Disabled' });
    await look(agent);
    expect(api.status?.selfAccess).toEqual([]);
    api.edit({ mode: 'Enabled' });
    await look(agent);
    expect(api.status?.selfAccess).toMatchObject(own);
    expect(api.status?.selfAccess?.[0]?.since).not.toBe(since);
  });

  it('is told of pods with interfaces of their own', async () => {
    const { links } = node.machine;
    links.drop('cni0');
    links.add({ name: 'veth1', type: 'veth' }, '10.0.0.254/32');
    links.addRoute('10.0.0.1/32', 'veth1');
    await look(await started());
    expect(api.status?.selfAccess).toMatchObject(own);
  });

  it('is not told while the node does not accelerate, or for Services on the native path', async () => {
    api.edit({ disruptionGrant: { revision: 'r0', expiresAt: '2026-01-02T04:00:00Z' } });
    const agent = await started();
    await look(agent);
    expect(api.status?.selfAccess).toEqual([]);
    api.edit({ disruptionGrant: { revision: 'r1', expiresAt: '2026-01-02T04:00:00Z' } });
    api.services = [{ ...SERVICE, virtualServers: [], nodePorts: [] }];
    await look(agent);
    expect(api.condition('Ready')).toBe('True Accelerating');
    expect(api.status?.selfAccess).toEqual([]);
  });
});

describe('the version of kube-proxy', () => {
  const asked = () => node.machine.calls.log.filter((call) => call === 'kubeProxy.version').length;
  const reported = () => api.status?.kubeProxy;

  it('is asked for once, and again when another process runs', async () => {
    const { kubeProxy } = node.machine;
    const agent = await started();
    await look(agent, 3);
    expect(asked()).toBe(1);
    kubeProxy.end(4711);
    await look(agent, 2);
    expect(asked()).toBe(1);
    expect(reported()?.version).toBeUndefined();
    kubeProxy.start(4712);
    kubeProxy.proxyVersion = 'v1.35.0';
    kubeProxy.proxyMode = undefined;
    await look(agent, 2);
    expect(asked()).toBe(1);
    expect(reported()).toEqual({ mode: '' });
    kubeProxy.proxyMode = 'ipvs';
    await look(agent, 2);
    expect(asked()).toBe(2);
    expect(reported()).toEqual({ mode: 'ipvs', version: 'v1.35.0' });
  });

  it('is asked for again after a minute if it was not told', async () => {
    node.machine.kubeProxy.proxyVersion = undefined;
    const agent = await started();
    await look(agent, 3);
    expect(asked()).toBe(1);
    expect(reported()).toEqual({ mode: 'ipvs' });
    node.machine.kubeProxy.proxyVersion = 'v1.34.4';
    await node.ports.clock.sleep(61_000);
    await look(agent, 2);
    expect(asked()).toBe(2);
    expect(reported()).toEqual({ mode: 'ipvs', version: 'v1.34.4' });
  });
});

describe('without the API server', () => {
  it('keeps, repairs and comes up with what it read last', async () => {
    await look(await started());
    api.reachable = false;
    const agent = await started(Date.parse('2027-01-01T00:00:00Z'));
    node.machine.host.control(SYSCTL, '0');
    node.machine.host.control(MODE, '0');
    await look(agent);
    expect(modeOf()).toBe('1');
    expect(node.machine.host.sysctls.get(SYSCTL)).toBe('1');
    api.reachable = true;
    await look(agent);
    expect(api.condition('Ready')).toBe('True Accelerating');
  });
});
