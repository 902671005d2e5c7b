// SPDX-License-Identifier: Apache-2.0
/** What is removed in the wrong order, by force or by hand strands nobody; in the right one nothing is left. */
import { beforeAll, describe, expect, inject, it } from 'vitest';
import { chart, release } from '../cluster/deploy.ts';
import { objectListing } from '../cluster/object-listing.ts';
import { documentedBlocks } from '../documented.ts';
import {
  applyPolicy,
  condition,
  identities,
  onNodeWithServices,
  outside,
  PATIENCE_MS,
  processes,
  RELEASE_NAMESPACE,
  session,
  untilAllRun,
  untilCondition,
  untilNative,
} from './fixture.ts';
import { NODES } from './settings.ts';

const ANSWERED = { answered: 40, tracked: 0 };
/** For the commands of docs/remove.md, which wait until all nodes are put back. */
const REMOVAL_MS = 720_000;

const POLICIES_CRD = 'ipvsbpfpolicies.ipvs-bpf.io';
const NODES_CRD = 'ipvsbpfnodes.ipvs-bpf.io';
const SLICES_CRD = 'ipvsbpfserviceslices.ipvs-bpf.io';

const identitiesNow = () => Promise.all(NODES.map(identities));

/** The name of the image of operator and agents on a node. */
async function imageOn(node: string): Promise<string> {
  const [image = ''] = (await session.onNode(node, "ctr -n k8s.io images ls -q | grep '/ipvs-bpf:'")).split(
    '\n',
  );
  return image;
}

/** Until operator and agents have looked, their objects say what was so before. */
async function untilAccelerated(): Promise<void> {
  await session.until('the accelerated path', PATIENCE_MS, async () => {
    const { answered, tracked } = await outside();
    return answered === ANSWERED.answered && tracked === 0 ? true : undefined;
  });
  await untilCondition('Ready', 'True AllNodesReady');
}

async function untilNothingRuns(): Promise<void> {
  await session.until('operator and agents to end', PATIENCE_MS, async () => {
    const found = await Promise.all(
      NODES.flatMap((node) => [processes(node, 'operator'), processes(node, 'agent')]),
    );
    return found.flat().length === 0 ? true : undefined;
  });
}

describe('an accelerated cluster', () => {
  let values = '';
  let were: readonly string[];

  beforeAll(async () => {
    await applyPolicy(['web']);
    await untilCondition('Ready', 'True AllNodesReady');
    values = await session.helm(['get', 'values', release, '-o', 'json']);
  });

  it('has a node put back by hand with the commands of docs/cli.md, and accelerates it again', async () => {
    const [node, other] = NODES;
    const untouched = await identities(other);
    const [stop = '', down = '', start = ''] = documentedBlocks('docs/cli.md', '### On a node of a cluster');
    await expect(session.onNode(node, 'dist/ipvs-bpf node down')).rejects.toThrow(/stop it first/);
    try {
      await onNodeWithServices(node, stop);
      await onNodeWithServices(node, down.replace('IMAGE', await imageOn(node)));
      expect(await session.onNode(node, 'cat /sys/module/ip_vs/taint')).not.toContain('O');
      const { answered, tracked } = await outside();
      // The node by the native path, the other one still by the accelerated one.
      expect({ answered, isTracked: tracked > 0 }).toEqual({ answered: 40, isTracked: true });
      expect(await identities(other)).toBe(untouched);
    } finally {
      await onNodeWithServices(node, start);
    }
    await untilAccelerated();
    await untilAllRun();
    were = await identitiesNow();
  });

  it('refuses to lose its chart or its definitions first', async () => {
    await expect(session.helm(['uninstall', release])).rejects.toThrow(
      /BackoffLimitExceeded|not uninstalled/,
    );
    await expect(session.kubectl(['delete', 'crd', 'ipvsbpfnodes.ipvs-bpf.io'])).rejects.toThrow(
      /uninstall the chart first/,
    );
    await untilCondition('Ready', 'True AllNodesReady');
  });

  it('goes on when its chart is forced to go', async () => {
    await session.helm(['uninstall', release, '--no-hooks']);
    await untilNothingRuns();
    expect(await outside()).toEqual(ANSWERED);
    expect(await identitiesNow()).toEqual(were);
  });

  it('needs no chart to put a node back', async () => {
    const [node, other] = NODES;
    await session.onNode(node, 'dist/ipvs-bpf node down >&2');
    const { answered, tracked } = await outside();
    // The node by the native path, the other one still by the accelerated one.
    expect({ answered, isTracked: tracked > 0 }).toEqual({ answered: 40, isTracked: true });
    expect(await identities(other)).toBe(were[1]);
  });

  it('is taken up by a chart that is installed again', async () => {
    await session.helm(['install', release, chart, '--values', '-'], values);
    await untilAccelerated();
    were = await identitiesNow();
  });

  it('goes on when its definitions are deleted first, those of the nodes before that of the policy', async () => {
    // As an administrator may who is told that the API server refuses.
    await session.kubectl(['delete', 'validatingadmissionpolicybinding', 'ipvs-bpf-crds']);
    await session.until('the definitions to go that tell of nodes', PATIENCE_MS, () =>
      session.kubectl(['delete', 'crd', '--ignore-not-found', NODES_CRD, SLICES_CRD]),
    );
    expect(await outside()).toEqual(ANSWERED);
    expect(await condition('Accepted')).toBe('True Accepted');
    expect(await identitiesNow()).toEqual(were);
    const operators = await Promise.all(NODES.map((node) => processes(node, 'operator')));
    await session.kubectl(['delete', 'crd', POLICIES_CRD]);
    await session.until('the agents to end', PATIENCE_MS, async () => {
      const found = await Promise.all(NODES.map((node) => processes(node, 'agent')));
      return found.flat().length === 0 ? true : undefined;
    });
    // It waits, and does not crash.
    expect(await Promise.all(NODES.map((node) => processes(node, 'operator')))).toEqual(operators);
    expect(await outside()).toEqual(ANSWERED);
    expect(await identitiesNow()).toEqual(were);
  });

  it('is taken up once the definitions and a policy are there again, and nothing is exchanged', async () => {
    await session.helm(['upgrade', release, chart, '--values', '-'], values);
    await session.until('the definitions', PATIENCE_MS, async () => {
      await applyPolicy(['web']);
      return true;
    });
    await untilCondition('Ready', 'True AllNodesReady');
    await untilAllRun();
    for (const node of NODES) await untilCondition('Ready', 'True Accelerating', node);
    expect(await outside()).toEqual(ANSWERED);
    expect(await identitiesNow()).toEqual(were);
  });

  it('is what it was before the chart once it is removed in the order of docs/remove.md', async () => {
    const [commands = ''] = documentedBlocks('docs/remove.md', '# Remove');
    const here = commands.replaceAll(/\bnamespace ipvs-bpf$/gm, `namespace ${RELEASE_NAMESPACE}`);
    expect(here).not.toBe(commands);
    await session.onComputer(here, REMOVAL_MS);
    await untilNothingRuns();
    await untilNative();
    const before = inject('objectsBefore');
    // What the API server and its controllers make and remove by themselves takes them a moment.
    const changed = async () => {
      const now = await objectListing(session);
      return {
        left: now.filter((line) => !before.includes(line)),
        lost: before.filter((line) => !now.includes(line)),
      };
    };
    await expect.poll(changed, { timeout: 120_000, interval: 2_000 }).toEqual({ left: [], lost: [] });
    const { answered, tracked } = await outside();
    expect({ answered, isTracked: tracked > 0 }).toEqual({ answered: 40, isTracked: true });
  });
});
