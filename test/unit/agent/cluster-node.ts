// SPDX-License-Identifier: Apache-2.0
/** A node of a cluster for tests: a machine with kube-proxy, its agent, and the API server. */

import type { KillPoint } from '../../../src/agent/kill-point.ts';
import { KubernetesAgent } from '../../../src/agent/kubernetes.ts';
import { NodeMeasures } from '../../../src/agent/measures.ts';
import {
  type Condition,
  type NodeResourceStatus,
  type NodeSpec,
  POLICY_LABEL,
  type SliceService,
} from '../../../src/api/resources.ts';
import { HostError, type HostErrorCode } from '../../../src/core/errors.ts';
import type { KubeObject } from '../../../src/core/kube-object.ts';
import { IPVS_BPF_NODES, SERVICE_SLICES } from '../../../src/core/resource-types.ts';
import type { NodeMemory } from '../../../src/ports.ts';
import { FakeCluster } from '../../fakes/fake-cluster.ts';
import { type FakeNode, fakeNode } from '../../fakes/fake-node.ts';
import { virtualServer } from '../builders.ts';
import { SPEC as CORRECTING, NOW, VIP, SERVICE as WITH_NODE_PORT } from './one-node.ts';

const NAME = 'n1';
const { policyRef: POLICY } = CORRECTING;
export const VS = 'net/ipv4/vs';
export const LATER = '2026-01-02T04:00:00Z';

export const SPEC: NodeSpec = { ...CORRECTING, driftPolicy: 'Report' };
export const SERVICE: SliceService = { ...WITH_NODE_PORT, nodePorts: [] };

/** A node with kube-proxy and one virtual server, its agent, and the API server. */
export class ClusterNode {
  readonly node: FakeNode;
  readonly cluster = new FakeCluster();
  /** All that was ever written into the status: "Ready True Accelerating", "rejectedServices NotFound". */
  readonly told = new Set<string>();
  /** The agent's time of day. */
  now = NOW;
  readonly measures = new NodeMeasures({
    version: '0.0.0',
    now: () => this.node.ports.clock.now(),
    date: () => this.now,
    apiProblem: () => this.#agent?.problem,
  });
  #agent: KubernetesAgent | undefined;
  #memory: NodeMemory = {};

  /** `atStep` is called before and after each step of the agent. */
  constructor(atStep: KillPoint = () => {}) {
    this.node = fakeNode(atStep);
  }

  get machine() {
    return this.node.machine;
  }

  get status(): NodeResourceStatus {
    return (this.cluster.select(IPVS_BPF_NODES, {})[0]?.status ?? {}) as NodeResourceStatus;
  }

  get conditions(): readonly Condition[] {
    return this.status.conditions ?? [];
  }

  /** The kernel's own ip_vs with what kube-proxy has made. */
  serve(change: Parameters<typeof virtualServer>[1] = {}): void {
    this.machine.ipvs.seed(virtualServer(VIP, change));
    this.machine.kubeProxy.start(4711);
  }

  /** The IpvsBpfNode, changed; with a whitelist of one Service if there is none yet. */
  put(change: Partial<NodeSpec> = {}): void {
    const [before] = this.cluster.select(IPVS_BPF_NODES, {});
    const spec = { ...SPEC, ...(before?.spec as Partial<NodeSpec> | undefined), ...change };
    const status = before?.status === undefined ? {} : { status: before.status };
    this.cluster.put(IPVS_BPF_NODES, { metadata: { name: NAME }, spec, ...status });
    if (this.cluster.select(SERVICE_SLICES, {}).length === 0) this.list(SERVICE);
  }

  /** The whitelist. */
  list(...services: readonly SliceService[]): void {
    const metadata = { name: 'default-0', labels: { [POLICY_LABEL]: POLICY.name } };
    this.cluster.put(SERVICE_SLICES, { metadata, spec: { policyRef: POLICY, services } });
  }

  async look(times = 1): Promise<void> {
    if (this.#agent === undefined) {
      this.#agent = this.#start();
      await this.#agent.start();
      await pause();
      // The first look only begins to watch the whitelist.
      await this.#agent.look();
    }
    for (let i = 0; i < times; i += 1) {
      await pause();
      await this.#agent.look();
    }
  }

  fail(call: string, code: HostErrorCode = 'SystemError', times = 99): void {
    this.machine.calls.fail(call, new HostError('it does not work', { code }), times);
  }

  #start(): KubernetesAgent {
    const onStep = this.measures.stepped.bind(this.measures);
    return new KubernetesAgent(
      { ...this.node, onStep },
      {
        cluster: {
          watch: (type, scope, handlers) => this.cluster.watch(type, scope, handlers),
          applyStatus: (type, object, options) => {
            this.#listen(object);
            return this.cluster.applyStatus(type, object, options);
          },
        },
        nodeName: NAME,
        agentVersion: '0.0.0',
        osImage: 'Test',
        memories: {
          read: async () => this.#memory,
          write: async (next) => {
            this.#memory = structuredClone(next);
          },
        },
        now: () => this.now,
        wake: () => {},
        measures: this.measures,
      },
    );
  }

  #listen(object: KubeObject): void {
    const { conditions = [], rejectedServices = [] } = object.status as NodeResourceStatus;
    for (const { type, status, reason } of conditions) this.told.add(`${type} ${status} ${reason}`);
    for (const { reason } of rejectedServices) this.told.add(`rejectedServices ${reason}`);
  }
}

/** A watch tells a few milliseconds later. */
function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 10));
}
