// SPDX-License-Identifier: Apache-2.0
/** A cluster of one node, for its agent. */
import { KubernetesAgent } from '../../../src/agent/kubernetes.ts';
import type { IpvsBpfNode } from '../../../src/api/generated/resource-types.ts';
import type { NodeResourceStatus, NodeSpec, SliceService } from '../../../src/api/resources.ts';
import type { Watched } from '../../../src/cluster-ports.ts';
import type { KubeObject } from '../../../src/core/kube-object.ts';
import { IPVS_BPF_NODES } from '../../../src/core/resource-types.ts';
import type { NodeMemory } from '../../../src/ports.ts';
import type { FakeNode } from '../../fakes/fake-node.ts';

export const NAME = 'n1';
const POLICY = { name: 'default', uid: 'policy-uid' };
export const VIP = '10.96.0.10';
export const NOW = Date.parse('2026-01-02T03:04:05Z');

export const SPEC: NodeSpec = {
  policyRef: POLICY,
  action: 'Apply',
  mode: 'Enabled',
  revision: 'r1',
  disruptionGrant: { revision: 'r1', expiresAt: '2026-01-02T04:00:00Z' },
  attempt: 1,
  timeouts: { stepSeconds: 120, nodeSeconds: 900 },
  driftPolicy: 'Correct',
  snat: { mode: 'External', clusterCIDRs: ['10.244.0.0/16'] },
  ipvs: { expireNodestConn: 1 },
  datapath: {
    interfaces: { autoDetect: 'Enabled', include: [], exclude: [] },
    sessionMapMaxEntries: 4096,
    onMapFull: 'Bypass',
  },
  module: { activation: 'Live' },
};

/** What makes SPEC another revision, one whose maps have another size, with the grant for it. */
export const SECOND_REVISION: Partial<NodeSpec> = {
  revision: 'r2',
  attempt: 2,
  datapath: { ...SPEC.datapath, sessionMapMaxEntries: 8192 },
  disruptionGrant: { revision: 'r2', expiresAt: '2026-01-02T04:00:00Z' },
};

export const SERVICE: SliceService = {
  namespace: 'shop',
  name: 'web',
  virtualServers: [{ addresses: [VIP], ports: [{ port: 80, protocol: 'TCP' }], snatMode: 'External' }],
  nodePorts: [{ port: 30080, protocol: 'TCP', snatMode: 'Always' }],
};

/** The API server with one node and one slice. */
export class OneNode {
  spec: NodeSpec = SPEC;
  services: readonly SliceService[] = [SERVICE];
  generation = 1;
  /** Of the IpvsBpfNode. */
  uid = 'node-uid';
  status: NodeResourceStatus | undefined;
  reachable = true;
  exists = true;
  writes = 0;

  edit(change: Partial<NodeSpec>): void {
    this.spec = { ...this.spec, ...change };
    this.generation += 1;
  }

  /** Another object of the same name and with the same spec, which nobody has reported to. */
  replace(): void {
    this.uid = `${this.uid}-2`;
    this.status = undefined;
    this.exists = true;
  }

  watch(type: { readonly kind: string }): Watched {
    const objects = (): readonly KubeObject[] => {
      if (type.kind !== IPVS_BPF_NODES.kind) return [this.#slice()];
      return this.exists ? [this.#node()] : [];
    };
    const synced = Promise.resolve();
    const self = this;
    return {
      get hasSynced() {
        return self.reachable;
      },
      synced,
      problem: undefined,
      list: objects,
      get: ({ name }) => objects().find(({ metadata }) => metadata.name === name),
      stop: () => {},
    };
  }

  async applyStatus(_type: unknown, object: KubeObject): Promise<KubeObject> {
    if (!this.reachable) throw new Error('connection refused');
    this.writes += 1;
    this.status = object.status as NodeResourceStatus;
    return object;
  }

  condition(type: string): string | undefined {
    const found = this.status?.conditions?.find((condition) => condition.type === type);
    return found === undefined ? undefined : `${found.status} ${found.reason}`;
  }

  #node(): KubeObject {
    const metadata = { name: NAME, uid: this.uid, generation: this.generation };
    const node = { apiVersion: 'ipvs-bpf.io/v1alpha1', kind: 'IpvsBpfNode', metadata, spec: this.spec };
    return (this.status === undefined ? node : { ...node, status: this.status }) as unknown as KubeObject &
      IpvsBpfNode;
  }

  #slice(): KubeObject {
    return {
      apiVersion: 'ipvs-bpf.io/v1alpha1',
      kind: 'IpvsBpfServiceSlice',
      metadata: { name: 'default-0' },
      spec: { policyRef: POLICY, services: this.services },
    };
  }
}

/** What outlives an agent. */
export interface Disk {
  memory: NodeMemory;
}

export function agentOf(node: FakeNode, api: OneNode, disk: Disk, now = NOW): KubernetesAgent {
  return new KubernetesAgent(node, {
    cluster: {
      watch: (type) => api.watch(type),
      applyStatus: (type, object) => api.applyStatus(type, object),
    },
    nodeName: NAME,
    agentVersion: '0.0.0',
    osImage: 'Test',
    memories: {
      read: async () => disk.memory,
      write: async (next) => {
        node.machine.calls.change('memories.write', '', () => {
          disk.memory = structuredClone(next);
        });
      },
    },
    now: () => now,
    wake: () => {},
  });
}
