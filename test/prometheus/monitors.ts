// SPDX-License-Identifier: Apache-2.0
/**
 * What Prometheus scrapes for a ServiceMonitor or a PodMonitor, as the Prometheus operator's API reference says. What it
 * does not know of a monitor is an error: nothing that the chart says is to be left out unseen.
 */

export interface Monitor {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly spec?: unknown;
}

/** What Prometheus' discovery is asked for: the section that goes into the scrape config. */
export type Discovery = (role: 'pod' | 'endpoints', namespace: string) => object;

interface Endpoint {
  readonly port: string;
  readonly path?: string;
  readonly scheme?: string;
  /** A test has its own. */
  readonly interval?: string;
  readonly relabelings?: readonly Readonly<Record<string, unknown>>[];
}

interface MonitorSpec {
  readonly selector: { readonly matchLabels: Readonly<Record<string, string>> };
  readonly endpoints?: readonly Endpoint[];
  readonly podMetricsEndpoints?: readonly Endpoint[];
}

const META = '__meta_kubernetes';

const KINDS = {
  ServiceMonitor: {
    role: 'endpoints',
    list: 'endpoints',
    labelled: 'service',
    portName: `${META}_endpoint_port_name`,
    labels: { service: `${META}_service_name`, job: `${META}_service_name` },
  },
  PodMonitor: {
    role: 'pod',
    list: 'podMetricsEndpoints',
    labelled: 'pod',
    portName: `${META}_pod_container_port_name`,
    labels: {},
  },
} as const;

/** One for each endpoint of each monitor. */
export function scrapeConfigs(monitors: readonly Monitor[], discovery: Discovery): readonly object[] {
  return monitors.flatMap((monitor) => {
    const { kind, metadata } = monitor;
    if (kind !== 'ServiceMonitor' && kind !== 'PodMonitor') throw new Error(`${kind} is no monitor`);
    const how = KINDS[kind];
    const spec = monitor.spec as MonitorSpec;
    only(spec, ['selector', how.list], `${kind} ${metadata.name}: spec`);
    only(spec.selector, ['matchLabels'], `${kind} ${metadata.name}: spec.selector`);
    const { namespace = '' } = metadata;
    const prefix = `${namespace}/${metadata.name}`;
    return (spec[how.list] ?? []).map((endpoint, index) => {
      only(endpoint, ['port', 'path', 'scheme', 'interval', 'relabelings'], `${prefix}: endpoint ${index}`);
      const { path = '/metrics', scheme = 'http', relabelings = [] } = endpoint;
      return {
        job_name: `${kind}/${prefix}/${index}`,
        metrics_path: path,
        scheme,
        ...discovery(how.role, namespace),
        relabel_configs: [
          ...selected(how, spec.selector.matchLabels, endpoint.port),
          ...targetLabels({ job: prefix, port: endpoint.port, labels: how.labels }),
          ...relabelings.map(relabelConfig),
        ],
      };
    });
  });
}

function selected(
  how: (typeof KINDS)[keyof typeof KINDS],
  labels: Readonly<Record<string, string>>,
  port: string,
): readonly object[] {
  return [
    { action: 'drop', source_labels: [`${META}_pod_phase`], regex: 'Failed|Succeeded' },
    ...Object.entries(labels).map(([name, value]) => ({
      action: 'keep',
      source_labels: [`${META}_${how.labelled}_label_${sanitised(name)}`],
      regex: literal(value),
    })),
    { action: 'keep', source_labels: [how.portName], regex: literal(port) },
  ];
}

function targetLabels({
  job,
  port,
  labels,
}: {
  readonly job: string;
  readonly port: string;
  readonly labels: Readonly<Record<string, string>>;
}): readonly object[] {
  const copied = {
    namespace: `${META}_namespace`,
    pod: `${META}_pod_name`,
    container: `${META}_pod_container_name`,
    ...labels,
  };
  return [
    { target_label: 'job', replacement: job },
    { target_label: 'endpoint', replacement: port },
    ...Object.entries(copied).map(([target, source]) => ({
      target_label: target,
      source_labels: [source],
    })),
  ];
}

const RELABELING = {
  sourceLabels: 'source_labels',
  targetLabel: 'target_label',
  separator: 'separator',
  regex: 'regex',
  modulus: 'modulus',
  replacement: 'replacement',
  action: 'action',
} as const;

function relabelConfig(relabeling: Readonly<Record<string, unknown>>): object {
  only(relabeling, Object.keys(RELABELING), 'relabeling');
  return Object.fromEntries(
    Object.entries(relabeling).map(([name, value]) => [RELABELING[name as keyof typeof RELABELING], value]),
  );
}

/** As Prometheus' discovery makes a label's name out of one of Kubernetes. */
export function sanitised(name: string): string {
  return name.replace(/\W/g, '_');
}

function literal(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

function only(object: object, known: readonly string[], where: string): void {
  const unknown = Object.keys(object).filter((key) => !known.includes(key));
  if (unknown.length > 0) throw new Error(`${where}: the tests do not know ${unknown.join(', ')}`);
}
