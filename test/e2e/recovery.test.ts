// SPDX-License-Identifier: Apache-2.0
/** What breaks around an accelerated node, and that its packets go on. */
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { repository } from '../../scripts/cache.ts';
import { POLICY } from '../cluster/shop.ts';
import { deletePolicy, nodeResource, requestsFromOutside } from '../cluster/shop-session.ts';
import { BROKEN_MODULE, breakModule } from './broken-module.ts';
import {
  applyPolicy,
  condition,
  identities,
  kill,
  outside,
  PATIENCE_MS,
  processes,
  RELEASE_NAMESPACE,
  session,
  sleep,
  untilAllRun,
  untilCondition,
  untilNative,
} from './fixture.ts';
import { NODES } from './settings.ts';
import { nothingLost, type TargetReport, underTraffic } from './traffic.ts';

const KILLING_MS = 120_000;
const KILL_PAUSE_MS = { least: 2_000, most: 12_000 };
const API_OUTAGE_MS = 60_000;
/** What a request may take on an emulated machine. */
const UNDER_WAY_MS = 2_000;
const COMPONENTS = ['agent', 'operator'] as const;

type Reports = Readonly<Record<(typeof NODES)[number], TargetReport>>;

function expectNothingLost(reports: Reports): void {
  for (const node of NODES) expect(reports[node]).toEqual(nothingLost(reports[node]));
}

/** Numbers from 0 to 1 that are the same for the same seed (a linear congruential generator). */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Kills agents and operators until the time is over; how many of each. */
async function killAtRandom(seed: number): Promise<Readonly<Record<string, number>>> {
  const next = random(seed);
  const killed: Record<string, number> = { agent: 0, operator: 0 };
  const end = Date.now() + KILLING_MS;
  while (Date.now() < end) {
    const node = NODES[Math.floor(next() * NODES.length)] ?? NODES[0];
    const component = COMPONENTS[Math.floor(next() * COMPONENTS.length)] ?? 'agent';
    for (const pid of await processes(node, component)) {
      await kill(node, pid);
      killed[component] = (killed[component] ?? 0) + 1;
    }
    await sleep(KILL_PAUSE_MS.least + next() * (KILL_PAUSE_MS.most - KILL_PAUSE_MS.least));
  }
  return killed;
}

describe('an accelerated node', () => {
  let were: readonly string[];
  const identitiesNow = () => Promise.all(NODES.map(identities));

  beforeAll(async () => {
    await applyPolicy(['web']);
    await untilCondition('Ready', 'True AllNodesReady');
    were = await identitiesNow();
  });

  it('loses nothing while agents and operators are killed for two minutes', async () => {
    const seed = Date.now() >>> 0;
    process.stdout.write(`seed ${seed}\n`);
    let killed: Readonly<Record<string, number>> = {};
    const reports = await underTraffic(session, NODES, async () => {
      killed = await killAtRandom(seed);
      await untilAllRun();
      await untilCondition('Ready', 'True AllNodesReady');
    });
    expect(killed).toEqual({ agent: expect.any(Number), operator: expect.any(Number) });
    expect(killed.agent).toBeGreaterThan(0);
    expectNothingLost(reports);
    expect(await identitiesNow()).toEqual(were);
    expect((await outside()).tracked).toBe(0);
  });

  it('loses nothing when its agent is exchanged for another', async () => {
    const [node] = NODES;
    const before = await processes(node, 'agent');
    const reports = await underTraffic(session, NODES, async () => {
      await session.kubectl(['rollout', 'restart', 'daemonset/ipvs-bpf-agent', '-n', RELEASE_NAMESPACE]);
      await session.until('another agent', PATIENCE_MS, async () => {
        const [pid] = await processes(node, 'agent');
        return pid === undefined || before.includes(pid) ? undefined : true;
      });
      await untilAllRun();
      await untilCondition('Ready', 'True AllNodesReady');
    });
    expectNothingLost(reports);
    expect(await identitiesNow()).toEqual(were);
  });

  it('is kept, and repaired, without the API server', async () => {
    const [node] = NODES;
    const damaged = { from: '', to: '' };
    const reports = await underTraffic(session, NODES, async () => {
      await session.stopDaemon('kube-apiserver');
      const stopped = Date.now();
      try {
        for (const pid of await processes(node, 'agent')) await kill(node, pid);
        damaged.from = new Date(Date.now() - UNDER_WAY_MS).toISOString();
        await session.onNode(node, 'tc qdisc del dev eth0 clsact');
        await session.until('the programs of eth0', PATIENCE_MS, async () =>
          (await session.onNode(node, 'tc filter show dev eth0 egress')).includes('ipvs') ? true : undefined,
        );
        damaged.to = new Date().toISOString();
        await sleep(Math.max(0, stopped + API_OUTAGE_MS - Date.now()));
      } finally {
        await session.restore();
      }
      await untilCondition('Ready', 'True AllNodesReady');
    });
    expect(reports.n2).toEqual(nothingLost(reports.n2));
    // Without its programs the node translates nothing until its agent, which has to start first, puts them back.
    expect(reports.n1.errors.filter((at) => at < damaged.from || at > damaged.to)).toEqual([]);
    expect((await outside()).tracked).toBe(0);
  });

  it('rolls back from a module that the kernel refuses, while the other node goes on', async () => {
    const [first, second] = NODES;
    const release = (await session.onNode(first, 'uname -r')).trim();
    for (const node of NODES) {
      const good = join(repository, 'build', release, 'ip_vs.ko');
      await breakModule(good, join(session.nodeStateDir(node), BROKEN_MODULE));
    }
    const reports = await underTraffic(session, NODES, async () => {
      await applyPolicy(['web'], { module: { path: `/var/lib/ipvs-bpf/${BROKEN_MODULE}` } });
      await untilCondition('Degraded', 'True RolledBack');
      await untilCondition('Ready', 'False RolloutHalted');
    });
    const states = await Promise.all(NODES.map(async (node) => (await nodeResource(session, node))?.status));
    const failed = NODES.filter((_, index) => states[index]?.lastFailure !== undefined);
    expect(failed).toHaveLength(1);
    const untouched = failed[0] === first ? second : first;
    expect(reports[untouched]).toEqual(nothingLost(reports[untouched]));
    const failure = states[NODES.indexOf(failed[0] ?? first)]?.lastFailure;
    expect(failure).toMatchObject({ step: 'insertModule', rollback: 'Succeeded' });
    // The failed node has its in-tree module, and every request through it is answered.
    await untilCondition('ModulePatched', 'False InsertFailed', failed[0]);
    const { answered, tracked } = await outside();
    expect({ answered, isTracked: tracked > 0 }).toEqual({ answered: 40, isTracked: true });
    await applyPolicy(['web']);
    await untilCondition('Ready', 'True AllNodesReady');
    await untilCondition('Degraded', 'False AsExpected');
    for (const node of NODES)
      await rm(dirname(join(session.nodeStateDir(node), BROKEN_MODULE)), { recursive: true });
  });

  it('is accelerated again by itself after a reboot', async () => {
    // The operator goes on: the one replica of it here would be missed for the five minutes that Kubernetes waits.
    const [first, second] = NODES;
    const node = (await processes(first, 'operator')).length === 0 ? first : second;
    await session.powerOff(node);
    await untilCondition('Degraded', 'True AgentUnreachable');
    await session.restore();
    await untilAllRun();
    await untilCondition('Ready', 'True AllNodesReady');
    await session.until('requests through the node', PATIENCE_MS, async () => {
      const { answered, tracked } = await requestsFromOutside(session, { count: 5, node, nodes: NODES });
      return answered === 5 && tracked === 0 ? true : undefined;
    });
    expect(await condition('AgentReachable', node)).toBe('True LeaseFresh');
  });

  it('is put back when its policy is deleted while the operator is away', async () => {
    const scale = (replicas: number) =>
      session.kubectl([
        ...['scale', 'deployment/ipvs-bpf-operator', '-n', RELEASE_NAMESPACE, `--replicas=${replicas}`],
      ]);
    await scale(0);
    try {
      await session.until('no operator', PATIENCE_MS, async () => {
        const found = await Promise.all(NODES.map((node) => processes(node, 'operator')));
        return found.flat().length === 0 ? true : undefined;
      });
      await session.kubectl(['delete', 'ipvsbpfpolicy', POLICY, '--wait=false']);
      expect(await outside()).toEqual({ answered: 40, tracked: 0 });
    } finally {
      await scale(1);
    }
    const reports = await underTraffic(session, NODES, () => deletePolicy(session));
    for (const node of NODES) expect(reports[node]).toEqual(nothingLost(reports[node]));
    await untilNative();
    const { answered, tracked } = await outside();
    expect({ answered, isTracked: tracked > 0 }).toEqual({ answered: 40, isTracked: true });
  });
});
