// SPDX-License-Identifier: Apache-2.0
/** npm run demo: a policy on a cluster of two virtual machines, what it says, and what requests leave behind. */
import { Command } from 'commander';
import { main, say } from '../scripts/exec.ts';
import { type KernelSeries, kernelSeries } from '../scripts/kernels.ts';
import { seriesOption } from '../scripts/options.ts';
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
  thePolicy,
  waitUntilGone,
} from '../test/cluster/shop-session.ts';
import { type DemoFigures, demoTable, type PathFigures } from './cluster-demo-table.ts';

const NODES = ['n1', 'n2'] as const;
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

async function requests(session: ClusterSession): Promise<PathFigures> {
  const outside = await requestsFromOutside(session, { count: FROM_OUTSIDE, node: NODES[0], nodes: NODES });
  const inside = await requestsFromAPod(session, { count: FROM_A_POD, nodes: NODES });
  return {
    outside: outside.answered,
    milliseconds: outside.milliseconds,
    tracked: outside.tracked,
    inside: inside.answered,
    insideTracked: inside.tracked,
  };
}

/** Prints each condition Ready that changes, until `done`. */
async function watchConditions(session: ClusterSession, done: () => Promise<boolean>): Promise<void> {
  const told = new Map<string, string>();
  await session.until('the policy', ROLLOUT_LIMIT_MS, async () => {
    const objects = [
      ...(await session.list<Reported>('ipvsbpfpolicy')),
      ...(await session.list<Reported>('ipvsbpfnode')),
    ];
    for (const { metadata, status } of objects) {
      const ready = status?.conditions?.find(({ type }) => type === 'Ready');
      if (ready === undefined) continue;
      const line = `${metadata.name.padEnd(5)} Ready=${ready.status} ${ready.reason}: ${ready.message}`;
      if (told.get(metadata.name) !== line) process.stdout.write(`${clock()}  ${line}\n`);
      told.set(metadata.name, line);
    }
    return (await done()) ? true : undefined;
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

async function isReady(session: ClusterSession): Promise<boolean> {
  return conditionOf(await thePolicy(session), 'Ready') === 'True AllNodesReady';
}

async function show(session: ClusterSession): Promise<void> {
  await startShop(session, NODES);
  const before = await Promise.all(NODES.map((node) => nodeListing(session, node)));
  title(`kube-proxy's ipvs mode as it is: ${FROM_OUTSIDE} requests from outside, ${FROM_A_POD} from a pod`);
  const native = await requests(session);
  title(`kubectl apply: IpvsBpfPolicy ${POLICY} whitelists Service ${NAMESPACE}/web on all nodes`);
  await applyPolicy(session, ['web']);
  await watchConditions(session, () => isReady(session));
  title('kubectl get ipvsbpfpolicy,ipvsbpfnode -o wide');
  process.stdout.write(await session.kubectl(['get', 'ipvsbpfpolicy,ipvsbpfnode', '-o', 'wide']));
  title('the same requests');
  const accelerated = await requests(session);
  title(`kubectl delete ipvsbpfpolicy ${POLICY}`);
  await session.kubectl(['delete', 'ipvsbpfpolicy', POLICY, '--wait=false']);
  await watchConditions(session, async () => (await thePolicy(session)) === undefined);
  await waitUntilGone(session);
  const after = await Promise.all(NODES.map((node) => nodeListing(session, node)));
  NODES.forEach((node, index) => {
    for (const line of changes(before[index] ?? '', after[index] ?? '')) say(`${node}: ${line}`);
  });
  const figures: DemoFigures = {
    wanted: { outside: FROM_OUTSIDE, inside: FROM_A_POD },
    native,
    accelerated,
    asBefore: NODES.filter((_, index) => before[index] === after[index]).length,
    nodes: NODES.length,
  };
  const { text, ok } = demoTable(figures);
  process.stdout.write(`\n${text}\n`);
  if (!ok) throw new Error('the demo did not show what it should');
}

async function demo(kernel: KernelSeries): Promise<void> {
  const started = Date.now();
  await withSession({ name: 'demo', nodes: NODES.length, kernel }, show);
  say(`done after ${Math.round((Date.now() - started) / 1000)} s; the cluster is gone`);
}

const program = new Command('npm run demo --')
  .description('Show a policy at work on a Kubernetes cluster of two virtual machines.')
  .option('--kernel <series>', `Debian kernel of the nodes: ${kernelSeries.join(', ')}`, seriesOption, '6.1');
const { kernel } = program.parse().opts<{ kernel: KernelSeries }>();
await main(() => demo(kernel));
