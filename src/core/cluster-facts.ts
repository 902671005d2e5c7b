// SPDX-License-Identifier: Apache-2.0
/**
 * What the operator observes of the cluster. Fields of Kubernetes' own objects are those that decide something: the
 * operator keeps no others (kept-fields.ts).
 */
import type { IpvsBpfNode, IpvsBpfPolicy, IpvsBpfServiceSlice } from '../api/generated/resource-types.ts';
import type { LabelSelector } from '../api/resources.ts';
import type { ObjectMeta } from './kube-object.ts';

type Metadata<Field extends keyof ObjectMeta> = Pick<ObjectMeta, 'name' | Field>;

export interface ClusterNode {
  readonly metadata: Metadata<'labels'>;
  readonly spec?: { readonly podCIDRs?: readonly string[] };
  readonly status?: {
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly nodeInfo?: { readonly kernelVersion?: string; readonly bootID?: string };
  };
}

export interface ClusterNamespace {
  readonly metadata: Metadata<'labels'>;
}

export interface ServicePort {
  readonly name?: string;
  readonly port: number;
  /** Unset: TCP. */
  readonly protocol?: string;
  readonly nodePort?: number;
}

export interface ClusterService {
  readonly metadata: Metadata<'namespace' | 'labels'>;
  readonly spec?: {
    readonly type?: string;
    readonly clusterIP?: string;
    readonly clusterIPs?: readonly string[];
    readonly externalIPs?: readonly string[];
    readonly ports?: readonly ServicePort[];
    readonly selector?: Readonly<Record<string, string>>;
    readonly externalTrafficPolicy?: string;
    readonly loadBalancerSourceRanges?: readonly string[];
  };
  readonly status?: {
    readonly loadBalancer?: {
      readonly ingress?: readonly { readonly ip?: string; readonly ipMode?: string }[];
    };
  };
}

export interface ClusterEndpointSlice {
  readonly metadata: Metadata<'namespace'> & {
    readonly labels?: { readonly 'kubernetes.io/service-name'?: string };
  };
  readonly endpoints?: readonly { readonly targetRef?: { readonly kind?: string } }[];
}

export interface ClusterNetworkPolicy {
  readonly metadata: Metadata<'namespace'>;
  readonly spec?: {
    readonly podSelector?: LabelSelectorLike;
    readonly policyTypes?: readonly string[];
    readonly egress?: readonly unknown[];
  };
}

/** A label selector of another kind than ours: the same with every field optional. */
export interface LabelSelectorLike {
  readonly matchLabels?: LabelSelector['matchLabels'];
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: string;
    readonly values?: readonly string[];
  }[];
}

interface ContainerState {
  readonly waiting?: { readonly reason?: string; readonly message?: string };
  readonly terminated?: {
    readonly exitCode: number;
    readonly reason?: string;
    readonly message?: string;
    readonly finishedAt?: string;
  };
}

interface ContainerStatus {
  readonly state?: ContainerState;
  readonly lastState?: ContainerState;
}

/** A pod that brings a module to a node. */
export interface ClusterPod {
  readonly metadata: Metadata<'namespace' | 'uid' | 'deletionTimestamp'>;
  readonly status?: {
    readonly phase?: string;
    readonly reason?: string;
    readonly message?: string;
    readonly startTime?: string;
    readonly containerStatuses?: readonly ContainerStatus[];
    readonly initContainerStatuses?: readonly ContainerStatus[];
  };
}

/** A pod of an agent. */
export interface AgentPod {
  readonly metadata: Metadata<'deletionTimestamp'>;
  readonly spec?: { readonly nodeName?: string };
}

/** That of an agent: with each sign of life it is another version. */
export interface AgentLease {
  readonly metadata: Metadata<'uid' | 'resourceVersion'>;
}

/** What is known of a node's agent besides its status. */
export interface AgentFacts {
  /** When its Lease was renewed last, in milliseconds since 1970; undefined if there is no Lease. */
  readonly renewedAt?: number;
  /** Whether there is a pod of it on the node. */
  readonly pod: boolean;
}

/** Everything that planning looks at. What the operator wrote itself must be in here at once. */
export interface ClusterFacts {
  /** Milliseconds since 1970. */
  readonly now: number;
  readonly policies: readonly IpvsBpfPolicy[];
  readonly nodes: readonly ClusterNode[];
  readonly nodeObjects: readonly IpvsBpfNode[];
  readonly slices: readonly IpvsBpfServiceSlice[];
  readonly namespaces: readonly ClusterNamespace[];
  readonly services: readonly ClusterService[];
  readonly endpointSlices: readonly ClusterEndpointSlice[];
  readonly networkPolicies: readonly ClusterNetworkPolicy[];
  readonly deliveryPods: readonly ClusterPod[];
  /** By node name. */
  readonly agents: Readonly<Record<string, AgentFacts>>;
}
