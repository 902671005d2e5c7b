// SPDX-License-Identifier: Apache-2.0
/** A policy from its first check on, with requests from outside and from pods all the way. recovery.test.ts ends it. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { AGENT_CAPABILITIES } from '../../src/core/manifests.ts';
import { addresses, addresses6 } from '../cluster/layout.ts';
import { bytesWithoutBase, ownImage } from '../cluster/own-image.ts';
import { NAMESPACE, OTHER_NODE_PORT, POLICY } from '../cluster/shop.ts';
import { nodeResource, requestsFromOutside } from '../cluster/shop-session.ts';
import {
  applyPolicy,
  clusterEnds,
  fromAPod,
  identities,
  inPod,
  messageOf,
  outside,
  PATIENCE_MS,
  privileges,
  processes,
  residentMiB,
  session,
  untilCondition,
  untilNative,
  webPodOn,
} from './fixture.ts';
import { NODES } from './settings.ts';
import { nothingLost, underTraffic } from './traffic.ts';

const REQUESTS = 20;
const POLL = { timeout: PATIENCE_MS, interval: 1000 };
/** An agent keeps what it is asked, also when that is to change nothing. */
const withoutFiles = (lines: readonly string[]) =>
  lines.filter((line) => !/^\/(var\/lib|run)\/ipvs-bpf/.test(line));

const CLI_MS = 300_000;
type Answer = Readonly<Record<string, unknown>>;

/** What a command of the command line of this checkout answers, as kubectl runs it; rejects unless it ends with 0. */
async function answerOf(words: string): Promise<Answer> {
  return JSON.parse(await session.onComputer(`kubectl ipvs-bpf ${words} -o json`, CLI_MS)) as Answer;
}

describe('a policy', () => {
  beforeAll(async () => {
    const { answered, tracked } = await outside(REQUESTS);
    expect({ answered, isTracked: tracked > 0 }).toEqual({ answered: 2 * REQUESTS, isTracked: true });
  });

  it('only checks the nodes while it is a DryRun', async () => {
    await applyPolicy(['web'], { mode: 'DryRun' });
    await untilCondition('Ready', 'True DryRunPassed');
    await untilNative(withoutFiles);
  });

  it('takes requests off conntrack on all nodes once it is enabled, loses nothing, and says how long it took', async () => {
    const reports = await underTraffic(session, NODES, async () => {
      await applyPolicy(['web']);
      await untilCondition('Ready', 'True AllNodesReady');
    });
    // Nobody is answered while the module is exchanged, and nothing is lost: each node says how long it took.
    for (const node of NODES) {
      await untilCondition('Ready', 'True Accelerating', node);
      const status = (await nodeResource(session, node))?.status;
      expect(status?.lastDisruption).toMatchObject({
        outageMilliseconds: expect.any(Number),
        connectionsDropped: 0,
      });
      expect(status?.module).toMatchObject({ origin: 'Patched', kfuncs: true });
      expect(reports[node]).toEqual(nothingLost(reports[node]));
    }
    expect(await outside(REQUESTS)).toEqual({ answered: 2 * REQUESTS, tracked: 0 });
    expect(await fromAPod('web')).toMatchObject({ answered: 5, tracked: 0 });
  });

  it('did that with no more capabilities than docs/security.md names, and writes nothing outside of its mounts', async () => {
    for (const node of NODES) {
      const [pid] = await processes(node, 'agent');
      const { effective, rootOptions } = await privileges(node, pid ?? '');
      expect(effective).toEqual([...AGENT_CAPABILITIES].sort());
      expect(rootOptions).toContain('ro');
    }
  });

  it('does that with an image and processes that are small', async () => {
    expect((await bytesWithoutBase((await ownImage()).archive)) / 1e6).toBeLessThan(250);
    for (const node of NODES) {
      for (const pid of await processes(node, 'agent'))
        expect(await residentMiB(node, pid)).toBeLessThan(130);
      for (const pid of await processes(node, 'operator'))
        expect(await residentMiB(node, pid)).toBeLessThan(150);
    }
  });

  it('is told of by kubectl ipvs-bpf: status, preflight, and top with rates by Service', async () => {
    expect(await answerOf(`status --wait ${POLICY}`)).toMatchObject({
      ready: true,
      operator: { ready: 1 },
      agents: { ready: NODES.length },
      policies: [{ name: POLICY, ready: true }],
    });
    const { nodes } = await answerOf('preflight');
    expect(nodes).toMatchObject(NODES.map((node) => ({ node, policy: POLICY, result: 'Passed' })));
    let traffic: Answer = {};
    await underTraffic(session, NODES, async () => {
      traffic = await answerOf('top --once');
    });
    expect(traffic).toMatchObject({ nodes: NODES, translatedPerSecond: expect.any(Number) });
    const rows = traffic.rows as readonly (Answer & { readonly name: string })[];
    const web = rows.find(({ name }) => name === `${NAMESPACE}/web`);
    // Each node has a connection that stays open.
    expect(web).toMatchObject({ whitelisted: true });
    for (const figure of [
      'sessions',
      'connectionsPerSecond',
      'inPacketsPerSecond',
      'inBytesPerSecond',
      'forwardedPerSecond',
    ]) {
      expect([figure, web?.[figure]]).toEqual([figure, expect.toSatisfy((value) => Number(value) > 0)]);
    }
    expect(Number(traffic.translatedPerSecond)).toBeGreaterThan(0);
  });

  it('lets kubectl ipvs-bpf connect to it from a node, and make an archive of another that lacks nothing', async () => {
    const [first, second] = NODES;
    const directory = await mkdtemp(join(tmpdir(), 'ipvs-bpf-e2e-'));
    const file = join(directory, 'dump.tar.gz');
    try {
      // On machines that do not wait for each other.
      const [{ connections }] = await Promise.all([
        answerOf(`conn-test --node ${second} --timeout 4m`),
        session.onComputer(`kubectl ipvs-bpf sysdump --node ${first} --log-lines 100 -o ${file}`, CLI_MS),
      ]);
      const service = `${NAMESPACE}/web`;
      const rows = connections as readonly { readonly target: string }[];
      expect(rows.map(({ target }) => target).sort()).toEqual((await clusterEnds('web', 80)).toSorted());
      for (const row of rows) {
        expect(row).toMatchObject({ node: second, service, result: 'Answered', accelerated: true });
      }
      const files = (await session.onComputer(`tar -tzf ${file}`)).split('\n');
      expect(files).toEqual(expect.arrayContaining([`dump/nodes/${first}/top.json`, 'dump/status.txt']));
      expect(files).not.toContain('dump/errors.txt');
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it('leaves Services that are not in the whitelist on the native path', async () => {
    const { answered, tracked } = await outside(5, OTHER_NODE_PORT);
    expect({ answered, isTracked: tracked > 0 }).toEqual({ answered: 10, isTracked: true });
  });

  it('follows an edit of the whitelist under traffic, and nothing is loaded anew', async () => {
    const were = await Promise.all(NODES.map(identities));
    const reports = await underTraffic(session, NODES, async () => {
      await applyPolicy(['web', 'other']);
      const words = ['wait', '--for=condition=Ready', '--timeout=100s', `ipvsbpfpolicy/${POLICY}`];
      await session.kubectl(words);
      expect(await outside(5, OTHER_NODE_PORT)).toEqual({ answered: 10, tracked: 0 });
      await applyPolicy(['web']);
      await session.kubectl(words);
      expect((await outside(5, OTHER_NODE_PORT)).tracked).toBeGreaterThan(0);
    });
    for (const node of NODES) expect(reports[node]).toEqual(nothingLost(reports[node]));
    expect(await Promise.all(NODES.map(identities))).toEqual(were);
  });

  it('keeps the source address of clients for a Service with externalTrafficPolicy Local', async () => {
    const patch = (policy: string) =>
      session.kubectl([
        ...['patch', 'service', 'web', '-n', NAMESPACE, '-p'],
        JSON.stringify({ spec: { externalTrafficPolicy: policy } }),
      ]);
    const own = [addresses.client, `[${addresses6.client}]`];
    const requests = async () => {
      const found = await requestsFromOutside(session, { count: 6, node: 'n1', nodes: NODES });
      return { tracked: found.tracked, clients: [...found.clients].sort() };
    };
    await patch('Local');
    try {
      const expected = { tracked: 0, clients: own };
      await expect.poll(requests, POLL).toEqual(expected);
      expect(await requests()).toEqual(expected);
    } finally {
      await patch('Cluster');
    }
    const untranslated = async () => (await requests()).clients.filter((client) => own.includes(client));
    await expect.poll(untranslated, POLL).toEqual([]);
    await untilCondition('Ready', 'True AllNodesReady');
  });

  it('says what a pod sees that reaches itself through its Service', async () => {
    const [node] = NODES;
    const pod = await webPodOn(node);
    const url = `http://web.${NAMESPACE}`;
    const once = (family: number) => `curl -${family} -sf -m 10 -w '\\n' ${url}/hostname ${url}/clientip`;
    const out = await inPod(pod.name, `for i in 1 2 3 4 5 6; do ${once(4)}; ${once(6)}; done`);
    const own = new RegExp(`^${pod.name}\\n\\[?([^\\]\\n]+)\\]?:\\d+$`, 'gm');
    const seen = [...new Set([...out.matchAll(own)].map(([, address]) => address))].sort();
    const entry = { namespace: NAMESPACE, name: 'web', reason: 'SelfAccessTranslated' };
    // One of each family.
    expect(seen).toHaveLength(2);
    // What was said of the Service that was taken off before goes with the node's next report.
    const expected = seen.map((sourceAddress) => ({ ...entry, sourceAddress, since: expect.any(String) }));
    await expect
      .poll(async () => (await nodeResource(session, node))?.status?.selfAccess, POLL)
      .toEqual(expected);
  });

  it('puts right what somebody else changes, and says so', async () => {
    const [node] = NODES;
    const damages = [
      ['sysctl -q -w net.ipv4.vs.bpf_mode=0', 'test "$(cat /proc/sys/net/ipv4/vs/bpf_mode)" = 1'],
      [
        'tc qdisc del dev eth0 clsact',
        'tc filter show dev eth0 ingress | grep -q ipvs && tc filter show dev eth0 egress | grep -q ipvs',
      ],
    ] as const;
    for (const [damage, right] of damages) {
      await session.onNode(node, damage);
      await session.until(right, PATIENCE_MS, async () =>
        (await session.onNode(node, `${right} && echo right || true`)) === '' ? undefined : true,
      );
    }
    await untilCondition('Ready', 'True Accelerating', node);
    await session.until('the message', PATIENCE_MS, async () =>
      (await messageOf('Drifted', node)).includes('put right') ? true : undefined,
    );
    expect(await outside(REQUESTS)).toEqual({ answered: 2 * REQUESTS, tracked: 0 });
  });

  it('only reports what somebody else changes with driftPolicy Report', async () => {
    const [node] = NODES;
    await applyPolicy(['web'], { driftPolicy: 'Report' });
    await untilCondition('Ready', 'True AllNodesReady');
    await session.onNode(node, 'sysctl -q -w net.ipv4.vs.bpf_mode=0');
    await untilCondition('Drifted', 'True SwitchChanged', node);
    await untilCondition('Degraded', 'True DriftUncorrected');
    // Requests go on by the native path meanwhile.
    expect((await requestsFromOutside(session, { count: 5, node, nodes: NODES })).answered).toBe(5);
    await applyPolicy(['web'], { driftPolicy: 'Correct' });
    await untilCondition('Ready', 'True AllNodesReady');
    await untilCondition('Degraded', 'False AsExpected');
  });

  it('turns the switch off and on with its mode, and leaves the module', async () => {
    const [node] = NODES;
    const were = await identities(node);
    await applyPolicy(['web'], { mode: 'Disabled' });
    await untilCondition('Ready', 'True DisabledAsRequested');
    const off = await outside(REQUESTS);
    expect({ answered: off.answered, isTracked: off.tracked > 0 }).toEqual({
      answered: 2 * REQUESTS,
      isTracked: true,
    });
    await applyPolicy(['web']);
    await untilCondition('Ready', 'True AllNodesReady');
    expect(await identities(node)).toBe(were);
    expect((await outside(REQUESTS)).tracked).toBe(0);
  });
});
