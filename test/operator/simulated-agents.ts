// SPDX-License-Identifier: Apache-2.0
/** Agents without nodes: they answer to what is asked of them, and everything goes well. */
import type { IpvsBpfNode, IpvsBpfServiceSlice } from '../../src/api/generated/resource-types.ts';
import { type Condition, NATIVE_REVISION, type NodeResourceStatus } from '../../src/api/resources.ts';
import type { Cluster, Watched } from '../../src/cluster-ports.ts';
import { canonicalJson } from '../../src/core/canonical.ts';
import { nodeFinding } from '../../src/core/conditions.ts';
import { apiVersionOf, type KubeObject } from '../../src/core/kube-object.ts';
import { whitelistRevision } from '../../src/core/node-spec.ts';
import { IPVS_BPF_NODES, LEASES, SERVICE_SLICES } from '../../src/core/resource-types.ts';

const MANAGER = { manager: 'ipvs-bpf-agent', onConflict: 'TakeOver' } as const;
const PARALLEL = 16;
/** As agents do: each every 10 s, not all at the same moment. */
const RENEW_MS = 10_000;
const RENEW_TURNS = 100;

export interface SimulatedAgentsOptions {
  readonly nodes: readonly string[];
  readonly namespace: string;
  /** Follows what all agents follow. */
  readonly reader: Cluster;
  /** Writes as the agent of that node. */
  readonly writerOf: (node: string) => Cluster;
  /** Whether they report; while it says no they only give signs of life. Default: always. */
  readonly reports?: () => boolean;
  /** Node → the revision that it has: what agents keep on their nodes, for those that come after them. */
  readonly applied?: Map<string, string>;
}

export class SimulatedAgents {
  readonly #options: SimulatedAgentsOptions;
  readonly #names: ReadonlySet<string>;
  readonly #objects: Watched;
  readonly #slices: Watched;
  readonly #waiting = new Set<string>();
  readonly #said = new Map<string, string>();
  readonly #applied: Map<string, string>;
  readonly #renewing: NodeJS.Timeout;
  #whitelists = new Map<string, string>();
  #writers = 0;
  #renewed = 0;
  #stopped = false;
  /** Writes that the API server refused, in its words. */
  readonly refused: string[] = [];

  constructor(options: SimulatedAgentsOptions) {
    this.#options = options;
    this.#names = new Set(options.nodes);
    this.#applied = options.applied ?? new Map();
    const { reader } = options;
    this.#objects = reader.watch(IPVS_BPF_NODES, {}, { onChange: ({ name }) => this.#wake([name]) });
    this.#slices = reader.watch(SERVICE_SLICES, {}, { onChange: () => this.#onSlices() });
    const turns = Math.min(options.nodes.length, RENEW_TURNS);
    this.#renewing = setInterval(
      () => this.#renewNext(Math.ceil(options.nodes.length / turns)),
      RENEW_MS / turns,
    );
  }

  /** Everything that is there is known. */
  async ready(): Promise<void> {
    await Promise.all([this.#objects.synced, this.#slices.synced, this.renew()]);
    this.#onSlices();
  }

  stop(): void {
    this.#stopped = true;
    clearInterval(this.#renewing);
    this.#objects.stop();
    this.#slices.stop();
  }

  /** Signs of life of all, a few at a time. */
  async renew(): Promise<void> {
    const waiting = this.#options.nodes.values();
    const worker = async (): Promise<void> => {
      for (const node of waiting) await this.#try(() => this.#renewOne(node));
    };
    await Promise.all(Array.from({ length: PARALLEL }, worker));
  }

  #renewNext(count: number): void {
    const { nodes } = this.#options;
    for (const node of nodes.slice(this.#renewed, this.#renewed + count)) {
      void this.#try(() => this.#renewOne(node));
    }
    this.#renewed = this.#renewed + count >= nodes.length ? 0 : this.#renewed + count;
  }

  async #renewOne(node: string): Promise<void> {
    const { namespace, writerOf } = this.#options;
    const renewTime = new Date().toISOString().replace('Z', '000Z');
    const object = {
      apiVersion: apiVersionOf(LEASES),
      kind: LEASES.kind,
      metadata: { name: `node-${node}`, namespace },
      spec: { holderIdentity: node, leaseDurationSeconds: 40, renewTime },
    };
    await writerOf(node).apply(LEASES, object, MANAGER);
  }

  /** The whitelists are counted once for all agents. */
  #onSlices(): void {
    this.#whitelists = new Map();
    this.#wake(this.#options.nodes);
  }

  #whitelistOf(policy: string): string {
    let found = this.#whitelists.get(policy);
    if (found === undefined) {
      const slices = this.#slices.list() as unknown as readonly IpvsBpfServiceSlice[];
      found = whitelistRevision(
        slices.filter(({ spec }) => spec.policyRef.name === policy).flatMap(({ spec }) => spec.services),
      );
      this.#whitelists.set(policy, found);
    }
    return found;
  }

  #wake(nodes: readonly string[]): void {
    for (const node of nodes) if (this.#names.has(node)) this.#waiting.add(node);
    while (this.#writers < PARALLEL && this.#writers < this.#waiting.size) void this.#work();
  }

  async #work(): Promise<void> {
    this.#writers += 1;
    // Changes of a moment are one report, as with agents that look once a second.
    await new Promise((resolve) => setTimeout(resolve, 200));
    for (const node of this.#waiting) {
      this.#waiting.delete(node);
      await this.#try(() => this.#report(node));
    }
    this.#writers -= 1;
  }

  async #try(work: () => Promise<void>): Promise<void> {
    if (this.#stopped) return;
    try {
      await work();
    } catch (error) {
      if (!this.#stopped) this.refused.push(error instanceof Error ? error.message : String(error));
    }
  }

  async #report(node: string): Promise<void> {
    const object = this.#objects.get({ name: node }) as unknown as IpvsBpfNode | undefined;
    if (object === undefined || this.#options.reports?.() === false) return;
    const before = this.#applied.get(node) ?? NATIVE_REVISION;
    const status = statusOf(object, before, this.#whitelistOf(object.spec.policyRef.name));
    this.#applied.set(node, status.appliedRevision ?? before);
    const text = canonicalJson([object.metadata.uid, status]);
    if (this.#said.get(node) === text) return;
    this.#said.set(node, text);
    const written = { apiVersion: object.apiVersion, kind: object.kind, metadata: { name: node }, status };
    await this.#options.writerOf(node).applyStatus(IPVS_BPF_NODES, written as KubeObject, MANAGER);
  }
}

/** What an agent says that has done what is asked of it, if it may, to a node that had a revision before. */
function statusOf(
  { metadata, spec, status }: IpvsBpfNode,
  before: string,
  whitelist: string,
): NodeResourceStatus {
  const appliedRevision = spec.disruptionGrant === undefined ? before : spec.revision;
  const reached = spec.action === 'Observe' || appliedRevision === spec.revision;
  return {
    observedGeneration: metadata.generation ?? 0,
    appliedRevision,
    attempt: spec.attempt ?? 0,
    kubeProxy: { mode: 'ipvs' },
    services: { revision: whitelist },
    conditions: [
      condition(status, nodeFinding('PreflightPassed', 'AllChecksPassed', '')),
      condition(status, nodeFinding('Ready', reached ? 'Accelerating' : 'Waiting', '')),
    ],
  };
}

function condition(
  status: NodeResourceStatus | undefined,
  finding: ReturnType<typeof nodeFinding>,
): Condition {
  const before = status?.conditions?.find(({ type }) => type === finding.type);
  const same = before !== undefined && before.status === finding.status;
  const time = same ? before.lastTransitionTime : `${new Date().toISOString().slice(0, 19)}Z`;
  return { ...finding, lastTransitionTime: time };
}
