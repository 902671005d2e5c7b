// SPDX-License-Identifier: Apache-2.0
/** Wrong policies, and clusters that do not fit them: a clear word for each, and nothing is changed. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { NAMESPACE, POLICY, policy } from '../cluster/shop.ts';
import { conditionOf, deletePolicy, type Reported, thePolicy } from '../cluster/shop-session.ts';
import { applyPolicy, messageOf, session, untilCondition } from './fixture.ts';
import { NODES } from './settings.ts';

const DRY_RUN = { mode: 'DryRun' };
/** Which ip_vs a node has, and what it is set to. */
const IP_VS =
  "grep -o '^ip_vs[a-z_]*' /proc/modules | sort; cat /sys/module/ip_vs/{taint,srcversion}; ls /proc/sys/net/ipv4/vs";

describe('bad input', () => {
  let before: readonly string[];
  const modules = () => Promise.all(NODES.map((node) => session.onNode(node, IP_VS)));

  beforeAll(async () => {
    await deletePolicy(session);
    before = await modules();
  });

  // Each test edits the policy of the one before: agents take their time to start on an emulated machine.
  afterEach(async () => {
    expect(await modules()).toEqual(before);
  });

  afterAll(() => deletePolicy(session));

  it.each([
    ['a wrong word', { mode: 'On' }, /spec\.mode: Unsupported value: "On": supported values: "DryRun"/],
    ['a wrong type', { rollout: { paused: 'yes' } }, /spec\.rollout\.paused.*boolean/],
    ['an unknown field', { modus: 'Enabled' }, /IpvsBpfPolicy\.spec\): unknown field "modus"/],
    [
      'nothing to accelerate',
      { mode: 'Enabled', services: {} },
      /spec\.services: .*mode Enabled needs at least one entry in services\.include, or services\.selector/,
    ],
    [
      'a percentage that is none',
      { rollout: { maxUnavailable: '0%' } },
      /spec\.rollout\.maxUnavailable: .*must be a number, 1 or more, or a percentage from 1% to 100%/,
    ],
    [
      'a number out of range',
      { ipvs: { connReuseMode: 4 } },
      /spec\.ipvs\.connReuseMode.*less than or equal to 3/,
    ],
  ])('refuses %s and names the field', async (_, spec, message) => {
    await expect(applyPolicy(['web'], spec)).rejects.toThrow(message);
    expect(await thePolicy(session)).toBeUndefined();
  });

  it('says which Services cannot run accelerated, and why', async () => {
    await applyPolicy(['web', 'missing'], DRY_RUN);
    await untilCondition('Ready', 'True DryRunPassed');
    expect((await thePolicy(session))?.status?.rejectedServices).toMatchObject([
      { namespace: NAMESPACE, name: 'missing', reason: 'NotFound' },
    ]);
  });

  it('says that a module file is missing', async () => {
    await applyPolicy(['web'], { ...DRY_RUN, module: { path: '/nowhere/ip_vs.ko' } });
    await untilCondition('Ready', 'False NodesNotReady');
    await untilCondition('PreflightPassed', 'False KernelNotMapped', NODES[0]);
    expect(await messageOf('PreflightPassed', NODES[0])).toContain('/nowhere/ip_vs.ko');
  });

  it("says that a module's image cannot be pulled", async () => {
    const mapping = { regexp: '.*', image: 'localhost/nowhere:1' };
    await applyPolicy(['web'], { ...DRY_RUN, module: { kernelMappings: [mapping] } });
    await untilCondition('ModuleDelivered', 'False ImagePullFailed', NODES[0]);
    expect(await messageOf('ModuleDelivered', NODES[0])).toContain('localhost/nowhere:1');
    await untilCondition('PreflightPassed', 'False ModuleNotDelivered', NODES[0]);
    await untilCondition('Ready', 'False NodesNotReady');
  });

  it('says that a regular expression is none', async () => {
    const mapping = { regexp: '6.1(', path: '/lib/modules/ip_vs.ko' };
    await applyPolicy(['web'], { ...DRY_RUN, module: { kernelMappings: [mapping] } });
    await untilCondition('Accepted', 'False InvalidKernelMapping');
    expect(await messageOf('Accepted')).toContain('6.1(');
  });

  it('says that there is no module for a kernel', async () => {
    const mapping = { literal: '1.0.0', path: '/lib/modules/ip_vs.ko' };
    const module = { kernelMappings: [mapping], unsupportedKernel: 'Fail' };
    await applyPolicy(['web'], { module });
    await untilCondition('Degraded', 'True NodeFailed');
    expect((await thePolicy(session))?.status?.problemNodes).toMatchObject(
      NODES.map((node) => ({ node, reason: 'KernelNotMapped' })),
    );
  });

  it('disrupts no node when none of the Services can run accelerated', async () => {
    await applyPolicy(['missing']);
    await untilCondition('Accepted', 'False NoServicesSelected');
    await untilCondition('Ready', 'False NotAccepted');
  });

  it('leaves a node to the older of two policies', async () => {
    await applyPolicy(['web'], DRY_RUN);
    await untilCondition('Ready', 'True DryRunPassed');
    const name = 'younger';
    await session.apply({ ...policy(['web'], DRY_RUN), metadata: { name } });
    try {
      await session.until('the conflict', 60_000, async () => {
        const younger = await session.get<Reported>('ipvsbpfpolicy', name);
        return conditionOf(younger, 'Accepted') === 'False NodeSelectorConflict' ? true : undefined;
      });
      await untilCondition('Ready', 'True DryRunPassed');
    } finally {
      await session.kubectl(['delete', 'ipvsbpfpolicy', name]);
    }
  });

  it('says that a node has kube-proxy in another mode', async () => {
    const [first, node] = NODES;
    await session.setProxyMode(node, 'iptables');
    try {
      await applyPolicy(['web'], DRY_RUN);
      await untilCondition('PreflightPassed', 'False ProxyModeNotIpvs', node);
      await untilCondition('ProxyModeSupported', 'False NotIpvs');
      await untilCondition('Ready', 'True DryRunPassed', first);
    } finally {
      await session.setProxyMode(node, 'ipvs');
    }
    await untilCondition('PreflightPassed', 'True AllChecksPassed', node);
    await untilCondition('Ready', 'True DryRunPassed');
    expect(conditionOf(await thePolicy(session), 'Degraded')).toBe('False AsExpected');
    expect((await session.list<Reported>('ipvsbpfpolicy')).map(({ metadata }) => metadata.name)).toEqual([
      POLICY,
    ]);
  });

  it('says that the selector selects no node', async () => {
    await applyPolicy(['web'], { nodeSelector: { matchLabels: { disk: 'none' } } });
    await untilCondition('Ready', 'False NoMatchingNodes');
  });
});
