// SPDX-License-Identifier: Apache-2.0
/** Nodes without machines, the operator's process with the rights that the chart gives it, and agents with theirs. */
import type { KubeObject, ResourceType } from '../../src/core/kube-object.ts';
import {
  DEPLOYMENTS,
  LEASES,
  NODES,
  POLICIES,
  SERVICE_ACCOUNTS,
  SERVICES,
} from '../../src/core/resource-types.ts';
import {
  type Connection,
  connect,
  eventually,
  makeAgentPod,
  makeNode,
  NAMESPACE,
  tokenOf,
} from './api-server.ts';
import { OperatorProcess } from './operator-process.ts';
import { SimulatedAgents } from './simulated-agents.ts';

/** Of all that the operator makes for agents. */
export const AGENT = { name: 'ipvs-bpf-agent', namespace: NAMESPACE };
export const MANAGER = { manager: 'test', onConflict: 'TakeOver' } as const;
/** For all that comes before the first test: a process of ours starts, leads, and makes the agents' rights. */
export const START_MS = 120_000;
export const WAIT = { timeout: 40_000, interval: 100 };

interface Conditions {
  readonly conditions?: readonly {
    readonly type: string;
    readonly status: string;
    readonly reason: string;
  }[];
}

export class Scene {
  readonly admin: Connection = connect();
  readonly nodes: readonly string[];
  /** Of the policy, and of what it selects the nodes by. */
  readonly name: string;
  /** Node → revision: what is on the nodes. */
  readonly #applied = new Map<string, string>();
  readonly #connections = new Map<string, Connection>();
  #operator: OperatorProcess | undefined;
  #agents: SimulatedAgents | undefined;
  #environment: Record<string, string> = {};
  #token = '';

  /** @param name tells its objects from those of other scenes; nodes are NAME-n1 and NAME-n2, the Service NAME-web */
  constructor(name: string) {
    this.name = name;
    this.nodes = [`${name}-n1`, `${name}-n2`];
  }

  get cluster() {
    return this.admin.cluster;
  }

  get operator(): OperatorProcess {
    if (this.#operator === undefined) throw new Error('the operator was not started');
    return this.#operator;
  }

  get agents(): SimulatedAgents {
    if (this.#agents === undefined) throw new Error('the agents were not started');
    return this.#agents;
  }

  /** Nodes, Service, operator, policy and, as soon as they have rights, agents. */
  async start(): Promise<void> {
    const deployment = { name: 'ipvs-bpf-operator', namespace: NAMESPACE };
    this.#environment = environmentOf(await this.cluster.get(DEPLOYMENTS, deployment));
    this.#token = await tokenOf(this.admin, 'ipvs-bpf-operator');
    for (const node of this.nodes) await makeNode(this.admin, node, { role: this.name });
    await this.cluster.apply(SERVICES, this.service(), MANAGER);
    await this.startOperator();
    await this.applyPolicy();
    await this.startAgents();
  }

  async startOperator(): Promise<void> {
    this.#operator = await OperatorProcess.start({ token: this.#token, environment: this.#environment });
  }

  /** Agents, and those before them end. The operator makes their account and rights; the pods are ours, because no kubelet runs any. */
  async startAgents(): Promise<void> {
    this.#agents?.stop();
    await Promise.all([...this.#connections.values()].map(({ config }) => config.close()));
    await eventually(async () => {
      const account = await this.cluster.get(SERVICE_ACCOUNTS, AGENT);
      if (account === undefined) throw new Error(`no account of the agents:\n${this.operator.output}`);
    }, START_MS / 2);
    for (const node of this.nodes) {
      const pod = await makeAgentPod(this.admin, node);
      this.#connections.set(node, connect(await tokenOf(this.admin, AGENT.name, pod)));
    }
    const [reader] = this.#connections.values();
    if (reader === undefined) throw new Error('there is no agent');
    // The last of their rights that is made; rights take effect a moment later.
    await eventually(() => reader.cluster.get(LEASES, { name: 'node-x', namespace: NAMESPACE }));
    this.#agents = new SimulatedAgents({
      nodes: this.nodes,
      namespace: NAMESPACE,
      applied: this.#applied,
      reader: reader.cluster,
      writerOf: (node) => this.#connections.get(node)?.cluster ?? this.cluster,
    });
    await this.#agents.ready();
  }

  async end(): Promise<void> {
    this.#agents?.stop();
    await this.#operator?.stop();
    await this.cluster.delete(SERVICES, { name: `${this.name}-web`, namespace: 'default' });
    for (const name of this.nodes) await this.cluster.delete(NODES, { name });
    for (const { config } of [this.admin, ...this.#connections.values()]) await config.close();
  }

  service(): KubeObject {
    return {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: `${this.name}-web`, namespace: 'default' },
      spec: { selector: { app: 'web' }, ports: [{ port: 80 }] },
    };
  }

  policy(change: object = {}): KubeObject {
    return {
      apiVersion: 'ipvs-bpf.io/v1alpha1',
      kind: 'IpvsBpfPolicy',
      metadata: { name: this.name },
      spec: {
        mode: 'Enabled',
        nodeSelector: { matchLabels: { role: this.name } },
        services: { include: [{ namespace: 'default', name: `${this.name}-web` }] },
        rollout: { soakSeconds: 0, minReadySeconds: 0 },
        ...change,
      },
    };
  }

  applyPolicy(change: object = {}): Promise<KubeObject> {
    return this.cluster.apply(POLICIES, this.policy(change), MANAGER);
  }

  found(type: ResourceType, name: string): Promise<KubeObject | undefined> {
    return this.cluster.get(type, { name });
  }

  /** "True AllNodesReady" of the policy, or of another object; "" while there is none. */
  async reason(type: string, kind = POLICIES, name = this.name): Promise<string> {
    const { conditions = [] } = ((await this.found(kind, name))?.status ?? {}) as Conditions;
    const condition = conditions.find((each) => each.type === type);
    return condition === undefined ? '' : `${condition.status} ${condition.reason}`;
  }
}

/** The environment that the chart gives the operator's container. */
function environmentOf(deployment: KubeObject | undefined): Record<string, string> {
  const spec = deployment?.spec as {
    template: { spec: { containers: { env: { name: string; value?: string }[] }[] } };
  };
  const entries = (spec.template.spec.containers[0]?.env ?? []).flatMap(({ name, value }) =>
    value === undefined ? [] : [[name, value] as const],
  );
  return {
    ...Object.fromEntries(entries),
    IPVS_BPF_NAMESPACE: NAMESPACE,
    IPVS_BPF_POD_NAME: `test-${process.pid}`,
    IPVS_BPF_HTTP_PORT: '0',
    IPVS_BPF_RESYNC_SECONDS: '10',
  };
}
