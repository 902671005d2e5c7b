// SPDX-License-Identifier: Apache-2.0
/**
 * The real agent with many Services: what it takes to look at everything, and from an edited slice to the whitelist
 * in the map. Only the API server is made up.
 */
import { execFileSync } from 'node:child_process';
import { KubernetesAgent } from '../src/agent/kubernetes.ts';
import type { Node } from '../src/agent/reconcile.ts';
import type { NodeResourceStatus, NodeSpec, SliceService } from '../src/api/resources.ts';
import type { Watched } from '../src/cluster-ports.ts';
import type { KubeObject } from '../src/core/kube-object.ts';
import { IPVS_BPF_NODES } from '../src/core/resource-types.ts';
import type { SnatMode } from '../src/datapath-ports.ts';
import type { NodeMemories } from '../src/ports.ts';

const NAME = 'n1';
const POLICY = { name: 'scale', uid: 'policy-uid' };
const API_VERSION = 'ipvs-bpf.io/v1alpha1';
/** As many Services as the operator puts into one slice. */
const SLICE = 100;
/** As many pods as the kubelet takes. */
export const PODS = 110;

const SPEC: NodeSpec = {
  policyRef: POLICY,
  action: 'Apply',
  mode: 'Enabled',
  revision: 'r1',
  disruptionGrant: { revision: 'r1', expiresAt: '2100-01-01T00:00:00Z' },
  attempt: 1,
  timeouts: { stepSeconds: 120, nodeSeconds: 900 },
  driftPolicy: 'Correct',
  snat: { mode: 'External', clusterCIDRs: ['10.244.0.0/16'] },
  ipvs: { expireNodestConn: 1 },
  datapath: {
    interfaces: { autoDetect: 'Enabled', include: [], exclude: [] },
    sessionMapMaxEntries: 262144,
    onMapFull: 'Bypass',
  },
  module: { activation: 'Live' },
};

/** Milliseconds: on the clock, and of a processor by all threads of this process. */
export interface Time {
  readonly wall: number;
  readonly cpu: number;
}

export interface Figures {
  /** Node and the agent's bundle, until nothing has been done yet. */
  readonly load: readonly Time[];
  /** The first look of an agent that starts on a node which is as it should be. */
  readonly start: readonly Time[];
  /** Looks that change nothing. */
  readonly look: readonly Time[];
  /** From an edited slice until the map has it. */
  readonly edit: readonly Time[];
  /** From an edited slice until the status is written. */
  readonly reported: readonly Time[];
  /** Bytes that this process has in memory at the end. */
  readonly memory: number;
}

/** Addresses of 10.96.0.0/12, from 10.96.1.0 on. */
export function virtualAddress(i: number): string {
  const number = i + 256;
  return `10.${96 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`;
}

function serviceOf(i: number, snatMode: SnatMode = 'External'): SliceService {
  return {
    namespace: `scale-${i % 10}`,
    name: `web-${String(i).padStart(5, '0')}`,
    virtualServers: [{ addresses: [virtualAddress(i)], ports: [{ port: 80, protocol: 'TCP' }], snatMode }],
    nodePorts: [],
  };
}

/** The stores of watches, as an API server fills them: an object that changes is another object. */
class Stores {
  status: NodeResourceStatus | undefined;
  writes = 0;
  onStatus: () => void = () => {};
  readonly #services: number;
  readonly #slices: KubeObject[];
  readonly #node: KubeObject = {
    apiVersion: API_VERSION,
    kind: 'IpvsBpfNode',
    metadata: { name: NAME, generation: 1 },
    spec: SPEC,
  };

  constructor(services: number) {
    this.#services = services;
    const all = Array.from({ length: services }, (_, i) => serviceOf(i));
    this.#slices = Array.from({ length: Math.ceil(services / SLICE) }, (_, i) =>
      this.#slice(i, all.slice(i * SLICE, (i + 1) * SLICE)),
    );
  }

  /** The last Service of a slice gets another SNAT mode. */
  edit(i: number, snatMode: SnatMode): void {
    const at = i % this.#slices.length;
    const last = Math.min((at + 1) * SLICE, this.#services) - 1;
    const ids = Array.from({ length: last + 1 - at * SLICE }, (_, j) => at * SLICE + j);
    // What comes from the API server shares nothing with what was there before.
    const services = ids.map((id) => serviceOf(id, id === last ? snatMode : 'External'));
    this.#slices[at] = this.#slice(at, services);
  }

  watch(type: { readonly kind: string }): Watched {
    const objects = () => (type.kind === IPVS_BPF_NODES.kind ? [this.#node] : [...this.#slices]);
    return {
      hasSynced: true,
      synced: Promise.resolve(),
      problem: undefined,
      list: objects,
      get: ({ name }) => objects().find(({ metadata }) => metadata.name === name),
      stop: () => {},
    };
  }

  async applyStatus(_type: unknown, object: KubeObject): Promise<KubeObject> {
    this.status = object.status as NodeResourceStatus;
    this.writes += 1;
    this.onStatus();
    return object;
  }

  #slice(i: number, services: readonly SliceService[]): KubeObject {
    const metadata = { name: `scale-${i}` };
    return {
      apiVersion: API_VERSION,
      kind: 'IpvsBpfServiceSlice',
      metadata,
      spec: { policyRef: POLICY, services },
    };
  }
}

/** A process that loads the agent's bundle, `repeats` times. */
export function loadTimes(bundle: string, repeats: number): readonly Time[] {
  const script =
    `await import(${JSON.stringify(bundle)}); const { user, system } = process.cpuUsage(); ` +
    'console.log(JSON.stringify({ wall: performance.now(), cpu: (user + system) / 1000 }));';
  const args = ['--disable-warning=DEP0040', '--input-type=module', '--eval', script];
  return Array.from({ length: repeats }, () => {
    const out = execFileSync(process.execPath, args, { encoding: 'utf8' });
    return JSON.parse(out) as Time;
  });
}

function stopwatch(): () => Time {
  const began = performance.now();
  const before = process.cpuUsage();
  return () => {
    const { user, system } = process.cpuUsage(before);
    return { wall: performance.now() - began, cpu: (user + system) / 1000 };
  };
}

type AgentNode = Node & { readonly memories: NodeMemories };

export class AgentRun {
  readonly #services: number;
  readonly #stores: Stores;
  readonly #node: AgentNode;
  #agent: KubernetesAgent;
  #onPut: () => void = () => {};

  constructor(node: AgentNode, services: number) {
    this.#services = services;
    this.#node = node;
    this.#stores = new Stores(services);
    const { datapath } = node.ports;
    const put = datapath.putService.bind(datapath);
    const putAndTell: typeof put = async (entry) => {
      await put(entry);
      this.#onPut();
    };
    Object.assign(datapath, { putService: putAndTell });
    this.#agent = this.#newAgent();
  }

  #newAgent(): KubernetesAgent {
    return new KubernetesAgent(this.#node, {
      cluster: this.#stores,
      nodeName: NAME,
      agentVersion: '0.0.0',
      osImage: 'Benchmark',
      memories: this.#node.memories,
      now: Date.now,
      wake: () => {},
    });
  }

  /** `repeats` times each. @throws Error if not all virtual servers run accelerated, or an edit is lost */
  async measure(repeats: number, bundle: string): Promise<Figures> {
    await this.#start();
    const look: Time[] = [];
    const edits: Awaited<ReturnType<AgentRun['edit']>>[] = [];
    for (let i = 0; i < repeats; i += 1) look.push(await this.look());
    for (let i = 0; i < repeats; i += 1) edits.push(await this.edit(i));
    const memory = process.memoryUsage.rss();
    const start: Time[] = [];
    for (let i = 0; i < repeats; i += 1) start.push(await this.#restart());
    return {
      load: loadTimes(bundle, repeats),
      start,
      look,
      edit: edits.map(({ map }) => map),
      reported: edits.map(({ status }) => status),
      memory,
    };
  }

  /** As an agent that was ended, and starts again. */
  async #restart(): Promise<Time> {
    const time = stopwatch();
    this.#agent = this.#newAgent();
    await this.#agent.start();
    await this.#agent.look();
    return time();
  }

  /** Until a look changes nothing any more. */
  async #start(): Promise<void> {
    await this.#agent.start();
    await this.#agent.look();
    await this.#agent.look();
    const { status } = this.#stores;
    const accelerated = status?.services?.virtualServers;
    if (accelerated === this.#services) return;
    const why = JSON.stringify(status?.lastFailure ?? status?.conditions);
    throw new Error(`${accelerated} of ${this.#services} virtual servers run accelerated: ${why}`);
  }

  async look(): Promise<Time> {
    const { writes } = this.#stores;
    const time = stopwatch();
    await this.#agent.look();
    const taken = time();
    if (this.#stores.writes !== writes) throw new Error('a look changed something');
    return taken;
  }

  /** Until the map has it, and until the status says so. */
  async edit(i: number): Promise<{ readonly map: Time; readonly status: Time }> {
    let map: Time | undefined;
    let status: Time | undefined;
    const time = stopwatch();
    this.#onPut = () => {
      map = time();
    };
    this.#stores.onStatus = () => {
      status = time();
    };
    this.#stores.edit(i, i % 2 === 0 ? 'Always' : 'Never');
    await this.#agent.look();
    if (map === undefined || status === undefined) throw new Error('the edit did not reach map and status');
    return { map, status };
  }
}
