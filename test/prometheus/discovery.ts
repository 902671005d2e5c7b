// SPDX-License-Identifier: Apache-2.0
/**
 * What Prometheus' discovery finds of pods and Services: addresses, with the labels that relabelling reads. Debian builds
 * Prometheus without the part that asks the API server.
 */
import { type Discovery, sanitised } from './monitors.ts';

interface Metadata {
  readonly name: string;
  readonly namespace?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

/** As the API server has it. */
export interface Pod {
  readonly metadata: Metadata;
  readonly spec: {
    readonly nodeName?: string;
    readonly containers: readonly {
      readonly name: string;
      readonly ports?: readonly { readonly name?: string; readonly containerPort: number }[];
    }[];
  };
  readonly status?: { readonly phase?: string; readonly podIP?: string };
}

export interface Service {
  readonly metadata: Metadata;
  readonly spec: {
    readonly selector?: Readonly<Record<string, string>>;
    readonly ports?: readonly { readonly name?: string; readonly targetPort: string | number }[];
  };
}

interface Target {
  readonly address: string;
  readonly labels: Readonly<Record<string, string>>;
}

const META = '__meta_kubernetes';

/** Discovery for a scrape config: of all ports of pods, or of what stands behind Services. */
export function discoveryOf(pods: readonly Pod[], services: readonly Service[]): Discovery {
  return (role, namespace) => {
    const found =
      role === 'pod' ? pods.flatMap(podTargets) : services.flatMap((each) => endpoints(each, pods));
    const own = found.filter(({ labels }) => labels[`${META}_namespace`] === namespace);
    return { static_configs: own.map(({ address, labels }) => ({ targets: [address], labels })) };
  };
}

/** None before the pod has an address. */
function podTargets(pod: Pod): readonly Target[] {
  const { podIP: address } = pod.status ?? {};
  if (address === undefined) return [];
  return pod.spec.containers.flatMap((container) =>
    (container.ports ?? []).map(({ name = '', containerPort }) => ({
      address: `${address}:${containerPort}`,
      labels: {
        ...podLabels(pod),
        [`${META}_pod_container_name`]: container.name,
        [`${META}_pod_container_port_name`]: name,
      },
    })),
  );
}

function endpoints({ metadata, spec }: Service, pods: readonly Pod[]): readonly Target[] {
  const selector = Object.entries(spec.selector ?? {});
  const behind = pods.filter(
    ({ metadata: { namespace, labels = {} } }) =>
      namespace === metadata.namespace &&
      selector.length > 0 &&
      selector.every(([name, value]) => labels[name] === value),
  );
  return (spec.ports ?? []).flatMap(({ name = '', targetPort }) =>
    behind
      .flatMap(podTargets)
      .filter(
        ({ address, labels }) =>
          labels[`${META}_pod_container_port_name`] === targetPort || address.endsWith(`:${targetPort}`),
      )
      .map(({ address, labels }) => ({
        address,
        labels: {
          ...labels,
          ...labelled('service', metadata),
          [`${META}_service_name`]: metadata.name,
          [`${META}_endpoint_port_name`]: name,
        },
      })),
  );
}

function podLabels({ metadata, spec, status }: Pod): Readonly<Record<string, string>> {
  return {
    ...labelled('pod', metadata),
    [`${META}_namespace`]: metadata.namespace ?? '',
    [`${META}_pod_name`]: metadata.name,
    [`${META}_pod_node_name`]: spec.nodeName ?? '',
    [`${META}_pod_phase`]: status?.phase ?? '',
  };
}

function labelled(what: string, { labels = {} }: Metadata): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(labels).map(([name, value]) => [`${META}_${what}_label_${sanitised(name)}`, value]),
  );
}
