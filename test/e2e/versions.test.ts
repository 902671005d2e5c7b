// SPDX-License-Identifier: Apache-2.0
/** Newer versions of what runs: operator and agents by helm, the module by its image, the kernel by a reboot. */
import { beforeAll, describe, expect, it } from 'vitest';
import { chart, release } from '../cluster/deploy.ts';
import { thePolicy } from '../cluster/shop-session.ts';
import {
  applyPolicy,
  condition,
  fromImages,
  identities,
  nodeStatus,
  outside,
  PATIENCE_MS,
  processes,
  session,
  untilAllRun,
  untilCondition,
} from './fixture.ts';
import { NODES } from './settings.ts';
import { nothingLost, underTraffic } from './traffic.ts';

const ADDED = 'n3';
const SRCVERSION = 'cat /sys/module/ip_vs/srcversion';

/** All pods of ours are those of the release as it is now. */
async function untilExchanged(work: () => Promise<unknown>): Promise<void> {
  const agents = () => Promise.all(NODES.map((node) => processes(node, 'agent')));
  const before = (await agents()).flat();
  await work();
  await session.until('other agents', PATIENCE_MS, async () => {
    const now = await agents();
    return now.every(([pid]) => pid !== undefined && !before.includes(pid)) ? true : undefined;
  });
  await untilAllRun();
  await untilCondition('Ready', 'True AllNodesReady');
}

describe('an accelerated cluster', () => {
  beforeAll(async () => {
    await applyPolicy(['web']);
    await untilCondition('Ready', 'True AllNodesReady');
  });

  it('loses nothing when operator and agents are upgraded by helm, and rolled back', async () => {
    const were = await Promise.all(NODES.map(identities));
    for (const node of NODES) {
      const images = await session.onNode(node, 'ctr -n k8s.io images ls -q | grep ^localhost/ipvs-bpf:');
      const [image = ''] = images.split('\n');
      await session.onNode(node, `ctr -n k8s.io images tag ${image} localhost/ipvs-bpf:next`);
    }
    const reports = await underTraffic(session, NODES, async () => {
      await untilExchanged(() =>
        session.helm(['upgrade', release, chart, '--reuse-values', '--set-string', 'image.tag=next']),
      );
      expect((await session.helm(['history', release])).match(/deployed/g)).toHaveLength(1);
      await untilExchanged(() => session.helm(['rollback', release]));
    });
    for (const node of NODES) expect(reports[node]).toEqual(nothingLost(reports[node]));
    expect(await Promise.all(NODES.map(identities))).toEqual(were);
    expect((await outside()).tracked).toBe(0);
  });

  it('exchanges the module for another one, loses nothing, and says how long it took', async () => {
    const were = await Promise.all(NODES.map((node) => session.onNode(node, SRCVERSION)));
    const before = await Promise.all(NODES.map(async (node) => (await nodeStatus(node))?.lastDisruption));
    const reports = await underTraffic(session, NODES, async () => {
      await applyPolicy(['web'], { module: fromImages('-2') });
      await untilCondition('Ready', 'True AllNodesReady');
    });
    for (const [index, node] of NODES.entries()) {
      const srcversion = await session.onNode(node, SRCVERSION);
      expect(srcversion).not.toBe(were[index]);
      const status = await nodeStatus(node);
      expect(status?.module).toMatchObject({ file: { state: 'Found', srcversion: srcversion.trim() } });
      expect(status?.lastDisruption).toMatchObject({
        outageMilliseconds: expect.any(Number),
        connectionsDropped: 0,
      });
      expect(status?.lastDisruption).not.toEqual(before[index]);
      expect(reports[node]).toEqual(nothingLost(reports[node]));
    }
    expect(await outside()).toEqual({ answered: 40, tracked: 0 });
  });

  it('takes in a node that is added, follows it to another kernel, and forgets it', async () => {
    await session.scaleNodes(NODES.length + 1);
    await untilCondition('Ready', 'True Accelerating', ADDED);
    expect(await session.onNode(ADDED, 'uname -r')).toMatch(/^6\.1\./);
    // No other kernel has an image with this suffix.
    await applyPolicy(['web'], {
      module: { kernelMappings: [...mapped('6\\.1\\..*', '-2'), ...mapped('.*')] },
    });
    await untilCondition('Ready', 'True AllNodesReady');
    await session.reboot(ADDED, '6.12');
    await session.until('the other kernel', PATIENCE_MS, async () => {
      const status = await nodeStatus(ADDED);
      return String(status?.kernelRelease).startsWith('6.12.') ? true : undefined;
    });
    await untilCondition('Ready', 'True Accelerating', ADDED);
    await untilCondition('Ready', 'True AllNodesReady');
    expect((await thePolicy(session))?.status?.nodes).toMatchObject({ selected: 3, ready: 3 });
    await session.scaleNodes(NODES.length);
    await session.until('the node to be forgotten', PATIENCE_MS, async () =>
      (await nodeStatus(ADDED)) === undefined ? true : undefined,
    );
    await untilCondition('Ready', 'True AllNodesReady');
    expect(await condition('Degraded')).toBe('False AsExpected');
  });

  it('gives a node another module by its next boot only, with activation NextBoot', async () => {
    // The one replica of the operator goes on.
    const [first, second] = NODES;
    const node = (await processes(first, 'operator')).length === 0 ? first : second;
    const were = await Promise.all(NODES.map(identities));
    const disruption = (await nodeStatus(node))?.lastDisruption;
    await applyPolicy(['web'], { module: { ...fromImages(), activation: 'NextBoot' } });
    for (const each of NODES) await untilCondition('Ready', 'False WaitingForBoot', each);
    expect(await Promise.all(NODES.map(identities))).toEqual(were);
    expect((await outside()).tracked).toBe(0);
    const srcversion = await session.onNode(node, SRCVERSION);
    await session.reboot(node, '6.1');
    await untilCondition('Ready', 'True Accelerating', node);
    expect(await session.onNode(node, SRCVERSION)).not.toBe(srcversion);
    const boot = await session.onNode(node, 'cat /proc/sys/kernel/random/boot_id');
    const outcome = await session.onNode(node, 'cat /var/lib/ipvs-bpf/boot/outcome');
    expect(outcome).toMatch(new RegExp(`^${boot.trim()} Loaded\\b`));
    expect((await nodeStatus(node))?.lastDisruption).toEqual(disruption);
    expect(await outside()).toEqual({ answered: 40, tracked: 0 });
  });
});

function mapped(regexp: string, suffix = ''): readonly object[] {
  return fromImages(suffix).kernelMappings.map((mapping) => ({ ...mapping, regexp }));
}
