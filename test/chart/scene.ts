// SPDX-License-Identifier: Apache-2.0
/**
 * An operator and the agents of two nodes that serve their own metrics, with what happens in a cluster: first nothing is
 * wrong, then much is.
 */
import type { IpvsBpfPolicy } from '../../src/api/generated/resource-types.ts';
import { measurePolicies, measureRun, operatorMetrics } from '../../src/operator/metrics.ts';
import { type StatusServer, serveStatus } from '../../src/runtime/server.ts';
import { ClusterNode, SERVICE } from '../unit/agent/cluster-node.ts';

export const NODES = ['n1', 'n2'] as const;
export const POLICY = 'shop';
const EDITED = { ...SERVICE, name: 'other', virtualServers: [] };

type Status = NonNullable<IpvsBpfPolicy['status']>;

const condition = (type: string, status: 'True' | 'False', reason: string) => ({
  type,
  status,
  reason,
  message: '',
  observedGeneration: 1,
  lastTransitionTime: '2026-01-02T03:04:05Z',
});

const WELL: Status = {
  nodes: {
    ...{ selected: 2, ready: 2, updated: 2, progressing: 0, waiting: 0 },
    ...{ failed: 0, rolledBack: 0, skipped: 0, unreachable: 0 },
  },
  services: { selected: 2, accelerated: 2, rejected: 0 },
  conditions: [
    condition('Ready', 'True', 'AllNodesReady'),
    condition('Accepted', 'True', 'Accepted'),
    condition('Progressing', 'False', 'Complete'),
    condition('Degraded', 'False', 'AsExpected'),
  ],
};

const ILL: Status = {
  ...WELL,
  nodes: { ...WELL.nodes, ready: 0, waiting: 1, failed: 1, rolledBack: 1 },
  services: { selected: 2, accelerated: 1, rejected: 1 },
  problemNodes: [{ node: 'n2', reason: 'RolledBack', message: '' }],
  waitingNodes: [{ node: 'n1', reason: 'Halted', message: '' }],
  rejectedServices: [{ namespace: 'shop', name: 'web', reason: 'Headless', message: '' }],
  conditions: [condition('Degraded', 'True', 'RolledBack'), condition('Progressing', 'False', 'Halted')],
};

export class Scene {
  readonly #operator = operatorMetrics('0.0.0');
  readonly #agents = NODES.map(() => new ClusterNode());
  readonly #servers: StatusServer[] = [];
  #status = WELL;
  #ticks = 0;

  /** Both nodes are accelerated then. */
  async start(): Promise<void> {
    this.#operator.setOne('leader', {}, 1);
    await this.#serve(() => this.#operator.text());
    for (const agent of this.#agents) {
      agent.serve();
      agent.now = Date.now();
      agent.put(granted('r1', 1));
      await agent.look(2);
      await this.#serve(() => agent.measures.text());
    }
    await this.tick();
  }

  async stop(): Promise<void> {
    for (const server of this.#servers) await server.close();
  }

  /** On 127.0.0.1, as those of the agents are. */
  get operatorPort(): number {
    return this.#port(0);
  }

  agentPort(index: number): number {
    return this.#port(index + 1);
  }

  /** Packets flow, the whitelist is edited, and everybody looks. */
  async tick(): Promise<void> {
    this.#ticks += 1;
    measurePolicies(this.#operator, [
      { metadata: { name: POLICY }, status: this.#status } as unknown as IpvsBpfPolicy,
    ]);
    for (const key of ['cluster', 'agents', 'modules']) {
      measureRun(this.#operator, { key, outcome: 'done', durationMs: 20, failures: 0 });
    }
    this.#operator.increment('steps_total', { kind: 'applyPolicyStatus', outcome: 'done' });
    this.#operator.increment('api_requests_total', { method: 'PATCH', status: '200' });
    for (const key of ['cluster', 'agents'] as const) {
      this.#operator.setOne('reconcile_last_success_timestamp_seconds', { key }, Date.now() / 1000);
    }
    for (const agent of this.#agents) {
      agent.now = Date.now();
      for (const event of ['Snat', 'SnatReversed', 'SessionAdded', 'SessionRemoved'] as const) {
        agent.machine.datapath.count(event, 10);
      }
      if (this.#ticks % 2 === 0) agent.list(SERVICE);
      else agent.list(SERVICE, EDITED);
      await agent.look();
      agent.measures.looked('done');
    }
  }

  /** The probe of the second node fails, its packets take the native path, and the rollout halts. */
  async fail(): Promise<void> {
    this.#status = ILL;
    const agent = this.#agents[1];
    agent?.fail('selfCheck.run', 'CommandFailed', 1);
    agent?.machine.kubeProxy.end(4711);
    await agent?.node.ports.clock.sleep(61_000);
  }

  async #serve(metrics: () => Promise<string>): Promise<void> {
    this.#servers.push(await serveStatus({ port: 0, address: '127.0.0.1', metrics }));
  }

  #port(index: number): number {
    const server = this.#servers[index];
    if (server === undefined) throw new Error('it was not started');
    return server.port;
  }
}

/** A revision that may be brought to the node now. */
function granted(revision: string, attempt: number) {
  const expiresAt = new Date(Date.now() + 3_600_000).toISOString();
  return { revision, attempt, disruptionGrant: { revision, expiresAt } };
}
