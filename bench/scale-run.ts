// SPDX-License-Identifier: Apache-2.0
/** One run of the scale benchmark: many objects, simulated agents, the operator's process, and edits with a clock. */
import type { Watched } from '../src/cluster-ports.ts';
import type { KubeObject, ResourceType } from '../src/core/kube-object.ts';
import {
  ENDPOINT_SLICES,
  IPVS_BPF_NODES,
  NAMESPACES,
  POLICIES,
  SERVICE_SLICES,
  SERVICES,
} from '../src/core/resource-types.ts';
import { type Connection, connect, makeNode, NAMESPACE } from '../test/operator/api-server.ts';
import { setup as installChart } from '../test/operator/install-chart.ts';
import type { OperatorProcess } from '../test/operator/operator-process.ts';
import { SimulatedAgents } from '../test/operator/simulated-agents.ts';
import { difference, MiB, median, seconds, totals } from './scale-numbers.ts';
import { idleMemory, startOperator, startUpOf } from './scale-operator.ts';

const PARALLEL = 16;
const NAMESPACE_COUNT = 10;
const EDITS = 5;
const MANAGER = { manager: 'bench', onConflict: 'TakeOver' } as const;
const LIMIT_MS = 300_000;

export type Row = readonly [what: string, value: string];

export class ScaleRun {
  readonly #nodes: readonly string[];
  readonly #services: readonly { readonly namespace: string; readonly name: string }[];
  #admin: Connection | undefined;
  #agents: SimulatedAgents | undefined;
  #operator: OperatorProcess | undefined;
  #watches: Watched[] = [];
  #onChange: () => void = () => undefined;

  constructor(nodes: number, services: number) {
    this.#nodes = Array.from({ length: nodes }, (_, i) => `node-${String(i).padStart(5, '0')}`);
    this.#services = Array.from({ length: services }, (_, i) => ({
      namespace: `scale-${i % NAMESPACE_COUNT}`,
      name: `web-${String(i).padStart(5, '0')}`,
    }));
  }

  /** Chart, nodes, namespaces, Services with EndpointSlices, signs of life. */
  async prepare(): Promise<void> {
    await installChart();
    const admin = connect();
    this.#admin = admin;
    const { cluster } = admin;
    await each(this.#nodes, (name) => makeNode(admin, name));
    const namespaces = Array.from({ length: NAMESPACE_COUNT }, (_, i) => `scale-${i}`);
    await each(namespaces, (name) =>
      cluster.apply(NAMESPACES, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } }, MANAGER),
    );
    await each(this.#services, async (service) => {
      await cluster.create(SERVICES, serviceOf(service));
      await cluster.create(ENDPOINT_SLICES, endpointSliceOf(service));
    });
    this.#agents = new SimulatedAgents({
      nodes: this.#nodes,
      namespace: NAMESPACE,
      reader: cluster,
      writerOf: () => cluster,
    });
    await this.#agents.ready();
    for (const type of [POLICIES, IPVS_BPF_NODES, SERVICE_SLICES]) {
      this.#watches.push(cluster.watch(type, {}, { onChange: () => this.#onChange() }));
    }
    await Promise.all(this.#watches.map(({ synced }) => synced));
  }

  /** The operator's process, with the rights of the chart. */
  async start(): Promise<void> {
    if (this.#admin === undefined) throw new Error('prepare() comes first');
    this.#operator = await startOperator(this.#admin);
  }

  async measure(say: (text: string) => void): Promise<readonly Row[]> {
    const rows: Row[] = [];
    const tell = (what: string, value: string): void => {
      rows.push([what, value]);
      say(`${what}: ${value}`);
    };
    const rollout = await this.#clock(
      () => this.#apply({}),
      () => this.#isReady(),
    );
    tell('policy made, until all nodes are ready (writes of the rollout included)', seconds([rollout]));
    const calls = (await this.#totals()).requests;
    tell('API requests of the operator until then', String(calls));
    const idle = await this.#during(10_000);
    tell('API requests of the operator in the 10 s after (the last Events of the rollout)', String(idle));
    await this.#edits('a Service gets another address, until its slice has it', tell, (i) =>
      this.#moveService(i),
    );
    await this.#edits('`exclude` names one Service more, until no slice has it', tell, (i) =>
      this.#exclude(i),
    );
    await this.#edits('`driftPolicy` is changed, until all node specs have it', tell, (i) => this.#drift(i));
    const { planSeconds, plans } = await this.#totals();
    tell(
      'a look at everything with its writes, on average',
      `${Math.round((planSeconds / plans) * 1000)} ms`,
    );
    await this.#idleAndRestart(tell);
    const { refused } = this.#agentsOf;
    if (refused.length > 0) throw new Error(`${refused.length} writes of agents failed: ${refused[0]}`);
    return rows;
  }

  /** Ends what was started, in whatever state it is. */
  async end(): Promise<void> {
    this.#agents?.stop();
    for (const watch of this.#watches) watch.stop();
    await this.#operator?.stop();
    await this.#admin?.config.close();
  }

  /** Memory when nothing changes any more, and the same of a process that finds everything as it is. */
  async #idleAndRestart(tell: (what: string, value: string) => void): Promise<void> {
    const memory = async (when: string): Promise<void> => {
      tell(`memory of the operator (RSS), idle ${when}`, await idleMemory(this.#process));
      tell('… at the most until then', MiB((await this.#process.memory()).peak));
    };
    await memory('after these edits');
    await this.#process.stop();
    await this.start();
    const { ready, looked } = await startUpOf(this.#process);
    tell('start of the operator with all these objects there, until `/readyz` answers 200', seconds([ready]));
    tell('… until it has looked at everything', seconds([looked]));
    await memory('after this start');
  }

  async #edits(
    what: string,
    tell: (what: string, value: string) => void,
    edit: (i: number) => Promise<number>,
  ): Promise<void> {
    const times: number[] = [];
    const settled: number[] = [];
    const requests: number[] = [];
    for (let i = 0; i < EDITS; i += 1) {
      const before = await this.#totals();
      const known = this.#statusText();
      const began = performance.now();
      times.push(await edit(i));
      // An edit of a Service does not change the policy: it stays Ready until the operator has seen the edit.
      await this.#until(() => this.#isReady() && this.#statusText() !== known);
      settled.push(performance.now() - began);
      requests.push(difference(before, await this.#totals()).requests);
    }
    tell(what, seconds(times));
    tell('… until the policy is Ready again: all agents have reported', seconds(settled));
    tell('… API requests of the operator', String(median(requests)));
  }

  #moveService(i: number): Promise<number> {
    const service = this.#services[i * 7];
    if (service === undefined) throw new Error('there are not enough Services');
    const address = `192.0.2.${i + 1}`;
    const moved = { ...serviceOf(service), spec: { externalIPs: [address] } };
    return this.#clock(
      () => this.#cluster.apply(SERVICES, moved, MANAGER),
      () => this.#slicesText().includes(address),
    );
  }

  #exclude(i: number): Promise<number> {
    const exclude = this.#services.slice(-1 - i).map((service) => ({ ...service }));
    const gone = `"name":"${exclude[0]?.name}"`;
    return this.#clock(
      () => this.#apply({ services: { selector: {}, exclude } }),
      () => !this.#slicesText().includes(gone),
    );
  }

  #drift(i: number): Promise<number> {
    const driftPolicy = i % 2 === 0 ? 'Report' : 'Correct';
    const exclude = this.#services.slice(-EDITS).map((service) => ({ ...service }));
    return this.#clock(
      () => this.#apply({ driftPolicy, services: { selector: {}, exclude } }),
      () => this.#list(1).every(({ spec }) => (spec as { driftPolicy?: string }).driftPolicy === driftPolicy),
    );
  }

  #apply(change: object): Promise<KubeObject> {
    return this.#cluster.apply(POLICIES, policyOf(change), MANAGER);
  }

  /** Milliseconds from the moment at which the edit is sent until the watches show that it holds. */
  async #clock(edit: () => Promise<unknown>, holds: () => boolean): Promise<number> {
    const began = performance.now();
    const [, ended] = await Promise.all([edit(), this.#until(holds)]);
    return ended - began;
  }

  #until(holds: () => boolean): Promise<number> {
    return new Promise((resolve, reject) => {
      const done = (): void => {
        clearTimeout(limit);
        this.#onChange = () => undefined;
      };
      const limit = setTimeout(() => {
        done();
        reject(new Error(`waited ${LIMIT_MS / 1000} s in vain:\n${this.#process.output.slice(-2000)}`));
      }, LIMIT_MS);
      this.#onChange = () => {
        if (!holds()) return;
        done();
        resolve(performance.now());
      };
      this.#onChange();
    });
  }

  async #during(milliseconds: number): Promise<number> {
    const before = await this.#totals();
    await new Promise((resolve) => setTimeout(resolve, milliseconds));
    return difference(before, await this.#totals()).requests;
  }

  async #totals() {
    return totals(await this.#process.metrics());
  }

  #isReady(): boolean {
    const [policy] = this.#list(0);
    const { conditions = [] } = (policy?.status ?? {}) as {
      readonly conditions?: readonly { type: string; status: string; observedGeneration?: number }[];
    };
    const ready = conditions.find(({ type }) => type === 'Ready');
    return ready?.status === 'True' && ready.observedGeneration === policy?.metadata.generation;
  }

  /** Generation and whitelist that the policy's status is about. */
  #statusText(): string {
    const { observedGeneration, services } = (this.#list(0)[0]?.status ?? {}) as {
      readonly observedGeneration?: number;
      readonly services?: { readonly revision?: string };
    };
    return `${observedGeneration} ${services?.revision}`;
  }

  #list(index: number): readonly KubeObject[] {
    return this.#watches[index]?.list() ?? [];
  }

  #slicesText(): string {
    return JSON.stringify(this.#list(2).map(({ spec }) => spec));
  }

  get #cluster() {
    if (this.#admin === undefined) throw new Error('prepare() comes first');
    return this.#admin.cluster;
  }

  get #process(): OperatorProcess {
    if (this.#operator === undefined) throw new Error('start() comes first');
    return this.#operator;
  }

  get #agentsOf(): SimulatedAgents {
    if (this.#agents === undefined) throw new Error('prepare() comes first');
    return this.#agents;
  }
}

function named(type: ResourceType, metadata: KubeObject['metadata'], content: object): KubeObject {
  const apiVersion = type.group === '' ? type.version : `${type.group}/${type.version}`;
  return { apiVersion, kind: type.kind, metadata, ...content };
}

function serviceOf(name: { readonly namespace: string; readonly name: string }): KubeObject {
  return named(SERVICES, name, {
    spec: { selector: { app: name.name }, ports: [{ name: 'http', port: 80, targetPort: 8080 }] },
  });
}

function endpointSliceOf({ namespace, name }: { readonly namespace: string; readonly name: string }) {
  const endpoint = (i: number) => ({
    addresses: [`10.244.${i}.7`],
    conditions: { ready: true },
    targetRef: { kind: 'Pod', namespace, name: `${name}-${i}` },
  });
  const labels = { 'kubernetes.io/service-name': name };
  return named(
    ENDPOINT_SLICES,
    { namespace, name: `${name}-x`, labels },
    {
      addressType: 'IPv4',
      endpoints: [endpoint(1), endpoint(2)],
      ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
    },
  );
}

function policyOf(change: object): KubeObject {
  const rollout = { maxUnavailable: '100%', canary: { nodes: 0 }, soakSeconds: 0, minReadySeconds: 0 };
  const spec = { mode: 'Enabled', nodeSelector: {}, services: { selector: {} }, rollout, ...change };
  return named(POLICIES, { name: 'scale' }, { spec });
}

async function each<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> {
  const waiting = items.values();
  const worker = async (): Promise<void> => {
    for (const item of waiting) await work(item);
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
}
