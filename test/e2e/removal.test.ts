// SPDX-License-Identifier: Apache-2.0
/** The chart is uninstalled too early, and by force: nobody is stranded. */
import { beforeAll, describe, expect, it } from 'vitest';
import { chart, release } from '../cluster/deploy.ts';
import { deletePolicy } from '../cluster/shop-session.ts';
import {
  applyPolicy,
  identities,
  listings,
  nativeListings,
  outside,
  PATIENCE_MS,
  processes,
  session,
  untilCondition,
} from './fixture.ts';
import { NODES } from './settings.ts';

const ANSWERED = { answered: 40, tracked: 0 };

async function untilNothingRuns(): Promise<void> {
  await session.until('operator and agents to end', PATIENCE_MS, async () => {
    const found = await Promise.all(
      NODES.flatMap((node) => [processes(node, 'operator'), processes(node, 'agent')]),
    );
    return found.flat().length === 0 ? true : undefined;
  });
}

describe('a chart that is uninstalled before its policy', () => {
  let values = '';
  let were: readonly string[];

  beforeAll(async () => {
    await applyPolicy(['web']);
    await untilCondition('Ready', 'True AllNodesReady');
    values = await session.helm(['get', 'values', release, '-o', 'json']);
    were = await Promise.all(NODES.map(identities));
  });

  it('refuses, and the definitions stay', async () => {
    await expect(session.helm(['uninstall', release])).rejects.toThrow(
      /BackoffLimitExceeded|not uninstalled/,
    );
    await expect(session.kubectl(['delete', 'crd', 'ipvsbpfnodes.ipvs-bpf.io'])).rejects.toThrow(
      /uninstall the chart first/,
    );
    await untilCondition('Ready', 'True AllNodesReady');
  });

  it('leaves the nodes as they are when it is forced to go', async () => {
    await session.helm(['uninstall', release, '--no-hooks']);
    await untilNothingRuns();
    expect(await outside()).toEqual(ANSWERED);
    expect(await Promise.all(NODES.map(identities))).toEqual(were);
  });

  it('is not needed to put a node back', async () => {
    const [node, other] = NODES;
    await session.onNode(node, 'dist/ipvs-bpf node down >&2');
    const { answered, tracked } = await outside();
    // The node by the native path, the other one still by the accelerated one.
    expect({ answered, isTracked: tracked > 0 }).toEqual({ answered: 40, isTracked: true });
    expect(await identities(other)).toBe(were[1]);
  });

  it('takes up what it left when it is installed again, and puts it back with its policy', async () => {
    await session.helm(['install', release, chart, '--values', '-'], values);
    // Until operator and agents have looked, their objects say what was so before.
    await session.until('the accelerated path', PATIENCE_MS, async () => {
      const { answered, tracked } = await outside();
      return answered === ANSWERED.answered && tracked === 0 ? true : undefined;
    });
    await untilCondition('Ready', 'True AllNodesReady');
    await deletePolicy(session);
    expect(await listings()).toEqual(nativeListings());
  });
});
