// SPDX-License-Identifier: Apache-2.0
/** Observe: everything that the operator looks at, followed by watches. */
import type { Cluster, Watched, WatchScope } from '../cluster-ports.ts';
import type { AgentFacts, AgentLease, AgentPod, ClusterFacts } from '../core/cluster-facts.ts';
import { AGENT_POD_FIELDS, FACT_FIELDS, LEASE_FIELDS } from '../core/kept-fields.ts';
import type { KubeObject, ObjectName, ResourceType } from '../core/kube-object.ts';
import { AGENT_NAME, NODE_LEASE_PREFIX } from '../core/manifests.ts';
import { DELIVERY_COMPONENT } from '../core/module-delivery.ts';
import {
  DAEMON_SETS,
  ENDPOINT_SLICES,
  IPVS_BPF_NODES,
  LEASES,
  NAMESPACES,
  NETWORK_POLICIES,
  NODES,
  PODS,
  POLICIES,
  SERVICE_SLICES,
  SERVICES,
} from '../core/resource-types.ts';
import { OverlayStore } from './overlay.ts';

export interface StoresOptions {
  readonly cluster: Pick<Cluster, 'watch'>;
  /** Where the agents are. */
  readonly namespace: string;
  /** Milliseconds of a clock that never jumps. */
  readonly now: () => number;
  /** Something that planning looks at has changed. */
  readonly onChange: () => void;
  /** The agents' DaemonSet has changed. */
  readonly onAgentsChange: () => void;
  /** A first list came in, or a watch broke or is there again. */
  readonly onState: () => void;
}

export class Stores {
  readonly policies: OverlayStore;
  readonly nodeObjects: OverlayStore;
  readonly slices: OverlayStore;
  readonly daemonSet: Watched;
  readonly #nodes: Watched;
  readonly #namespaces: Watched;
  readonly #services: Watched;
  readonly #endpointSlices: Watched;
  readonly #networkPolicies: Watched;
  readonly #leases: Watched;
  readonly #pods: Watched;
  readonly #deliveryPods: Watched;
  readonly #options: StoresOptions;
  readonly #all = new Map<string, Watched>();
  /** By node name: what planning looks at of it. */
  readonly #nodeDigests = new Map<string, string>();
  /** By name of the Lease: its version, and when that was first seen. The agents' own clocks are not trusted. */
  readonly #renewals = new Map<string, { readonly version: string; readonly at: number }>();

  /** @param policies the store that the operator's base class follows */
  constructor(policies: Watched, options: StoresOptions) {
    this.#options = options;
    const { namespace, onAgentsChange } = options;
    this.#all.set(POLICIES.plural, policies);
    this.policies = new OverlayStore(policies);
    this.nodeObjects = this.#overlay(IPVS_BPF_NODES);
    this.slices = this.#overlay(SERVICE_SLICES);
    this.#nodes = this.#watch(NODES, { fields: FACT_FIELDS.nodes }, (name) => this.#onNode(name));
    this.#namespaces = this.#watch(NAMESPACES, { fields: FACT_FIELDS.namespaces });
    this.#services = this.#watch(SERVICES, { fields: FACT_FIELDS.services });
    this.#endpointSlices = this.#watch(ENDPOINT_SLICES, { fields: FACT_FIELDS.endpointSlices });
    this.#networkPolicies = this.#watch(NETWORK_POLICIES, { fields: FACT_FIELDS.networkPolicies });
    this.#leases = this.#watch(LEASES, { namespace, fields: LEASE_FIELDS }, (name) => this.#onLease(name));
    const labelled = (component: string) => ({
      namespace,
      labelSelector: `app.kubernetes.io/name=ipvs-bpf,app.kubernetes.io/component=${component}`,
    });
    this.#pods = this.#watch(PODS, { ...labelled('agent'), fields: AGENT_POD_FIELDS });
    const deliveries = { ...labelled(DELIVERY_COMPONENT), fields: FACT_FIELDS.deliveryPods };
    this.#deliveryPods = this.#watch(PODS, deliveries, undefined, 'deliveries');
    this.daemonSet = this.#watch(
      DAEMON_SETS,
      // That it has changed is all: what it is to be is compared with a fresh one.
      { namespace, fieldSelector: `metadata.name=${AGENT_NAME}`, fields: {} },
      onAgentsChange,
    );
  }

  /** True when every first list is in. */
  get hasSynced(): boolean {
    return [...this.#all.values()].every((store) => store.hasSynced);
  }

  /** Kind → why nothing new of it is known. */
  problems(): ReadonlyMap<string, string> {
    const found = new Map<string, string>();
    for (const [plural, store] of this.#all) {
      if (store.problem !== undefined) found.set(plural, store.problem);
      else if (!store.hasSynced) found.set(plural, `${plural}: the first list is not in yet`);
    }
    return found;
  }

  /** @param date milliseconds since 1970 */
  facts(date: number): ClusterFacts {
    const list = <T>(store: { list(): readonly KubeObject[] }) => store.list() as unknown as readonly T[];
    return {
      now: date,
      policies: list(this.policies),
      nodes: list(this.#nodes),
      nodeObjects: list(this.nodeObjects),
      slices: list(this.slices),
      namespaces: list(this.#namespaces),
      services: list(this.#services),
      endpointSlices: list(this.#endpointSlices),
      networkPolicies: list(this.#networkPolicies),
      deliveryPods: list(this.#deliveryPods),
      agents: this.#agents(date),
    };
  }

  stop(): void {
    for (const store of this.#all.values()) store.stop();
  }

  #agents(date: number): Readonly<Record<string, AgentFacts>> {
    const age = (at: number) => this.#options.now() - at;
    const pods = new Set<string | undefined>();
    for (const { metadata, spec } of this.#pods.list() as unknown as readonly AgentPod[]) {
      if (metadata.deletionTimestamp === undefined) pods.add(spec?.nodeName);
    }
    const agents: Record<string, AgentFacts> = {};
    for (const node of this.#nodes.list()) {
      const { name } = node.metadata;
      const renewal = this.#renewals.get(NODE_LEASE_PREFIX + name);
      agents[name] = {
        ...(renewal === undefined ? {} : { renewedAt: date - age(renewal.at) }),
        pod: pods.has(name),
      };
    }
    return agents;
  }

  #watch(
    type: ResourceType,
    scope: WatchScope = {},
    onChange: (name: ObjectName) => void = this.#options.onChange,
    what = type.plural,
  ): Watched {
    const store = this.#options.cluster.watch(type, scope, { onChange, onState: this.#options.onState });
    this.#all.set(what, store);
    return store;
  }

  #overlay(type: ResourceType): OverlayStore {
    const overlay: OverlayStore = new OverlayStore(
      this.#watch(type, {}, (name) => {
        if (overlay.watched.get(name) === undefined) overlay.gone(name);
        this.#options.onChange();
      }),
    );
    return overlay;
  }

  /** A kubelet writes its Node every few minutes; most of that decides nothing. */
  #onNode(name: ObjectName): void {
    const node = this.#nodes.get(name);
    const digest = node === undefined ? '' : digestOf(node);
    if (this.#nodeDigests.get(name.name) === digest) return;
    if (node === undefined) this.#nodeDigests.delete(name.name);
    else this.#nodeDigests.set(name.name, digest);
    this.#options.onChange();
  }

  /** Signs of life change nothing by themselves; that one is missing shows with the next look. */
  #onLease(name: ObjectName): void {
    const lease = this.#leases.get(name) as AgentLease | undefined;
    if (lease === undefined) {
      this.#renewals.delete(name.name);
      return;
    }
    const version = `${lease.metadata.uid}/${lease.metadata.resourceVersion}`;
    const known = this.#renewals.get(name.name);
    if (known?.version === version) return;
    this.#renewals.set(name.name, { version, at: this.#options.now() });
    if (known === undefined) this.#options.onChange();
  }
}

/** All that is kept of it decides something, but for its version. */
function digestOf({ metadata, spec, status }: KubeObject): string {
  return JSON.stringify([{ ...metadata, resourceVersion: undefined }, spec, status]);
}
