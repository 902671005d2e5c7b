// SPDX-License-Identifier: Apache-2.0
/** What the chart and the operator have installed: the two workloads, and how far they are rolled out. */
import type { KubeObject } from './kube-object.ts';

/** Finds the objects of a component, in whatever namespace the chart is. */
export const selectorOf = (component: 'operator' | 'agent'): string =>
  `app.kubernetes.io/name=ipvs-bpf,app.kubernetes.io/component=${component}`;

/** A Deployment or DaemonSet, as far as it matters. */
export interface Workload {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly image: string;
  /** Pods that there should be, that are ready, and that are of the newest template. */
  readonly desired: number;
  readonly ready: number;
  readonly updated: number;
  /** True if its controller has seen the newest spec. */
  readonly observed: boolean;
}

interface PodTemplate {
  readonly spec?: {
    readonly containers?: readonly { readonly name?: string; readonly image?: string }[];
    readonly imagePullSecrets?: readonly { readonly name: string }[];
  };
}

/** The template of its pods. */
export function podTemplateOf(object: KubeObject): PodTemplate {
  return (object.spec as { readonly template?: PodTemplate } | undefined)?.template ?? {};
}

interface Counts {
  readonly observedGeneration?: number;
  readonly readyReplicas?: number;
  readonly updatedReplicas?: number;
  readonly desiredNumberScheduled?: number;
  readonly numberReady?: number;
  readonly updatedNumberScheduled?: number;
}

export function workloadOf(object: KubeObject): Workload {
  const status = (object.status ?? {}) as Counts;
  const { replicas } = (object.spec ?? {}) as { readonly replicas?: number };
  const { name, namespace = '', generation = 0 } = object.metadata;
  return {
    kind: object.kind,
    namespace,
    name,
    image: podTemplateOf(object).spec?.containers?.[0]?.image ?? '',
    desired: object.kind === 'DaemonSet' ? (status.desiredNumberScheduled ?? 0) : (replicas ?? 1),
    ready: status.numberReady ?? status.readyReplicas ?? 0,
    updated: status.updatedNumberScheduled ?? status.updatedReplicas ?? 0,
    observed: (status.observedGeneration ?? 0) >= generation,
  };
}

/** True if all of its pods are of the newest template, and ready. No pod is none too few on no nodes only. */
export function isRolledOut({ kind, observed, desired, ready, updated }: Workload): boolean {
  const wanted = kind === 'DaemonSet' ? desired : Math.max(1, desired);
  return observed && ready >= wanted && updated >= wanted;
}
