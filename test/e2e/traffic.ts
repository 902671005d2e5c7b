// SPDX-License-Identifier: Apache-2.0
/** Requests from outside of the cluster to the node port of each node, while something happens. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { nodeNamed } from '../cluster/layout.ts';
import { insideOf } from '../cluster/network.ts';
import type { ClusterSession } from '../cluster/session.ts';
import { NODE_PORT } from '../cluster/shop.ts';

export interface TargetReport {
  readonly url: string;
  /** Requests, each on its own connection. */
  readonly sent: number;
  readonly answered: number;
  /** Requests on the connection that stays open. */
  readonly openSent: number;
  readonly openAnswered: number;
  /** How often that connection had to be made. */
  readonly connections: number;
  /** Each with its time. */
  readonly errors: readonly string[];
}

/** Sends requests to the nodes until the work is done; the reports, by node. */
export async function underTraffic<Node extends string>(
  session: ClusterSession,
  nodes: readonly Node[],
  work: () => Promise<void>,
): Promise<Readonly<Record<Node, TargetReport>>> {
  const urls = nodes.map((node) => `http://${nodeNamed(node).address}:${NODE_PORT}/hostname`);
  const script = join(import.meta.dirname, 'traffic-client.ts');
  const [program, ...args] = insideOf(session.layout.clientNetns, [process.execPath, script, ...urls]);
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const exit = once(child, 'exit');
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    text += part;
  });
  try {
    await work();
  } finally {
    child.stdin.end();
    await exit;
  }
  const reports = JSON.parse(text) as readonly TargetReport[];
  return Object.fromEntries(nodes.map((node, index) => [node, reports[index]])) as Record<Node, TargetReport>;
}

/** What a report is when nothing was lost. */
export function nothingLost({ url, sent, openSent }: TargetReport): TargetReport {
  return { url, sent, answered: sent, openSent, openAnswered: openSent, connections: 1, errors: [] };
}
