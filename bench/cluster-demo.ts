// SPDX-License-Identifier: Apache-2.0
/** npm run demo: a policy on a cluster of virtual machines, what it says, and what requests leave behind. */
import { Command } from 'commander';
import { main, say } from '../scripts/exec.ts';
import { type KernelSeries, kernelSeries } from '../scripts/kernels.ts';
import { positiveOption, seriesOption } from '../scripts/options.ts';
import { maxNodes, nodeIdentities } from '../test/cluster/layout.ts';
import { type ClusterSession, withSession } from '../test/cluster/session.ts';
import { NAMESPACE, POLICY } from '../test/cluster/shop.ts';
import {
  applyPolicy,
  conditionOf,
  nodeListing,
  type Reported,
  requestsFromAPod,
  requestsFromOutside,
  startShop,
  waitUntilGone,
} from '../test/cluster/shop-session.ts';
import {
  type DemoFigures,
  demoTable,
  forwardedShare,
  type Packets,
  type PathFigures,
  packetsOf,
} from './cluster-demo-table.ts';

const FROM_OUTSIDE = 100;
const FROM_A_POD = 10;
const ROLLOUT_LIMIT_MS = 600_000;

/** Seconds since the start, as a column. */
function clock(): string {
  return `${Math.round(performance.now() / 1000)} s`.padStart(6);
}

function title(text: string): void {
  process.stdout.write(`\n== ${text}\n`);
}

async function requests(session: ClusterSession, nodes: readonly string[]): Promise<PathFigures> {
  const [node = ''] = nodes;
  const outside = await requestsFromOutside(session, { count: FROM_OUTSIDE, node, nodes });
  const inside = await requestsFromAPod(session, { count: FROM_A_POD, nodes });
  return {
    outside: outside.answered,
    milliseconds: outside.milliseconds,
    tracked: outside.tracked,
    inside: inside.answered,
    insideTracked: inside.tracked,
  };
}

/** What the eBPF programs have counted on all nodes. */
async function countedPackets(session: ClusterSession, nodes: readonly string[]): Promise<Packets> {
  const dump = (node: string) => session.onNode(node, 'bpftool -j map dump name ipvs_counters');
  return packetsOf(await Promise.all(nodes.map(dump)));
}

/** Prints each condition Ready that changes, until the policy, or its absence, is `done`. */
async function watchConditions(
  session: ClusterSession,
  done: (policy: Reported | undefined) => boolean,
): Promise<void> {
  const told = new Map<string, string>();
  await session.until('the policy', ROLLOUT_LIMIT_MS, async () => {
    const objects = await session.list<Reported>('ipvsbpfpolicy,ipvsbpfnode');
    for (const { metadata, status } of objects) {
      const ready = status?.conditions?.find(({ type }) => type === 'Ready');
      if (ready === undefined) continue;
      const line = `${metadata.name.padEnd(5)} Ready=${ready.status} ${ready.reason}: ${ready.message}`;
      if (told.get(metadata.name) !== line) process.stdout.write(`${clock()}  ${line}\n`);
      told.set(metadata.name, line);
    }
    return done(objects.find(({ metadata }) => metadata.name === POLICY)) ? true : undefined;
  });
}

/** Lines that only one of two listings has. */
function changes(before: string, after: string): string[] {
  const [old, now] = [before.split('\n'), after.split('\n')];
  return [
    ...old.filter((line) => !now.includes(line)).map((line) => `- ${line}`),
    ...now.filter((line) => !old.includes(line)).map((line) => `+ ${line}`),
  ];
}

async function show(session: ClusterSession, nodes: readonly string[]): Promise<void> {
  await startShop(session, nodes);
  const before = await Promise.all(nodes.map((node) => nodeListing(session, node)));
  title(`kube-proxy's ipvs mode as it is: ${FROM_OUTSIDE} requests from outside, ${FROM_A_POD} from a pod`);
  const native = await requests(session, nodes);
  title(`kubectl apply: IpvsBpfPolicy ${POLICY} whitelists Service ${NAMESPACE}/web on all nodes`);
  await applyPolicy(session, ['web']);
  await watchConditions(session, (policy) => conditionOf(policy, 'Ready') === 'True AllNodesReady');
  title('kubectl get ipvsbpfpolicy,ipvsbpfnode -o wide');
  process.stdout.write(await session.kubectl(['get', 'ipvsbpfpolicy,ipvsbpfnode', '-o', 'wide']));
  title('the same requests');
  const packetsBefore = await countedPackets(session, nodes);
  const accelerated = await requests(session, nodes);
  const packets = await countedPackets(session, nodes);
  title(`kubectl delete ipvsbpfpolicy ${POLICY}`);
  await session.kubectl(['delete', 'ipvsbpfpolicy', POLICY, '--wait=false']);
  await watchConditions(session, (policy) => policy === undefined);
  await waitUntilGone(session);
  const after = await Promise.all(nodes.map((node) => nodeListing(session, node)));
  nodes.forEach((node, index) => {
    for (const line of changes(before[index] ?? '', after[index] ?? '')) say(`${node}: ${line}`);
  });
  const figures: DemoFigures = {
    wanted: { outside: FROM_OUTSIDE, inside: FROM_A_POD },
    native,
    accelerated,
    forwardedShare: forwardedShare(packetsBefore, packets),
    asBefore: nodes.filter((_, index) => before[index] === after[index]).length,
    nodes: nodes.length,
  };
  const { text, ok } = demoTable(figures);
  process.stdout.write(`\n${text}\n`);
  if (!ok) throw new Error('the demo did not show what it should');
}

interface Options {
  readonly kernel: KernelSeries;
  readonly nodes: number;
}

async function demo({ kernel, nodes }: Options): Promise<void> {
  const started = Date.now();
  const names = nodeIdentities(nodes).map(({ name }) => name);
  await withSession({ name: 'demo', nodes, kernel }, (session) => show(session, names));
  say(`done after ${Math.round((Date.now() - started) / 1000)} s; the cluster is gone`);
}

const program = new Command('npm run demo --')
  .description('Show a policy at work on a Kubernetes cluster of virtual machines.')
  .option('--kernel <series>', `Debian kernel of the nodes: ${kernelSeries.join(', ')}`, seriesOption, '6.1')
  .option('--nodes <n>', `virtual machines, 1 to ${maxNodes}`, positiveOption, 1);
await main(() => demo(program.parse().opts<Options>()));
