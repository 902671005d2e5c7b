// SPDX-License-Identifier: Apache-2.0
/** The connection test of a cluster: what is connected to from where, by which pod, and what became of it. */
import type { IpvsBpfNode, IpvsBpfServiceSlice } from '../api/generated/resource-types.ts';
import { endText } from './addresses.ts';
import { conditionOf } from './conditions.ts';
import { type KubeObject, keyOf } from './kube-object.ts';
import { virtualServersOf } from './node-spec.ts';

export type ProbeResult = 'Answered' | 'Refused' | 'Timeout' | 'Unreachable';

/** What `conn-test-probe` prints of each target, as a JSON array on one line. */
export interface ProbedTarget {
  /** "10.96.0.10:80", "[fd00:96::a]:80" */
  readonly target: string;
  readonly result: ProbeResult;
  /** Time until it was connected, or until it was given up. */
  readonly milliseconds: number;
}

export interface ConnectionTarget {
  /** "namespace/name" */
  readonly service: string;
  readonly target: string;
}

export interface ConnectionTestRow extends ConnectionTarget {
  readonly node: string;
  /** NotTried: the pod said nothing; `message` says why. */
  readonly result: ProbeResult | 'NotTried';
  readonly milliseconds: number | null;
  readonly message: string;
  /** True if the node says that it runs this Service accelerated. */
  readonly accelerated: boolean;
}

/** On the pods of the test: which run they are of. */
const CONN_TEST_LABEL = 'ipvs-bpf.io/conn-test';
const CONN_TEST_NAME = 'ipvs-bpf-conn-test';
/** Finds the pods of all runs. */
export const CONN_TEST_SELECTOR = `app.kubernetes.io/name=${CONN_TEST_NAME}`;
/** Arguments of a process have a bound; this many targets are far from it. */
export const MAX_TARGETS = 2_000;

/**
 * The TCP virtual servers of these Services, or of all, at their own addresses. UDP has no answer to wait for, and
 * node ports are what a client outside uses.
 */
export function connectionTargets(
  slices: readonly IpvsBpfServiceSlice[],
  { policy, services }: { readonly policy: string; readonly services: readonly string[] },
): readonly ConnectionTarget[] {
  const own = slices
    .filter(({ spec }) => spec.policyRef.name === policy)
    .flatMap(({ spec }) => spec.services);
  return virtualServersOf(own, []).flatMap(({ server: { address, port, protocol }, namespace, name }) => {
    const service = `${namespace}/${name}`;
    if (protocol !== 'TCP' || (services.length > 0 && !services.includes(service))) return [];
    return [{ service, target: endText(address, port) }];
  });
}

export interface ConnectionTestPod {
  readonly node: string;
  readonly namespace: string;
  readonly image: string;
  readonly imagePullSecrets: readonly { readonly name: string }[];
  readonly targets: readonly ConnectionTarget[];
  /** Names the run, in the label and in the name. */
  readonly run: string;
  /** After this time the kubelet ends it, whatever becomes of us. */
  readonly seconds: number;
}

/** A pod that fits the strictest Pod Security Standard, and has no rights in the cluster. */
export function connectionTestPod(options: ConnectionTestPod, index: number): KubeObject {
  const { node, namespace, image, imagePullSecrets, targets, run, seconds } = options;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: `${CONN_TEST_NAME}-${run}-${index}`,
      namespace,
      labels: { 'app.kubernetes.io/name': CONN_TEST_NAME, [CONN_TEST_LABEL]: run },
    },
    spec: {
      nodeName: node,
      restartPolicy: 'Never',
      activeDeadlineSeconds: seconds,
      terminationGracePeriodSeconds: 1,
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      tolerations: [{ operator: 'Exists' }],
      ...(imagePullSecrets.length === 0 ? {} : { imagePullSecrets }),
      securityContext: {
        runAsNonRoot: true,
        runAsUser: 65534,
        runAsGroup: 65534,
        seccompProfile: { type: 'RuntimeDefault' },
      },
      containers: [
        {
          name: 'probe',
          image,
          args: ['conn-test-probe', ...targets.map(({ target }) => target)],
          resources: { requests: { cpu: '10m', memory: '64Mi' } },
          securityContext: {
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ['ALL'] },
          },
        },
      ],
    },
  };
}

/** What the log of a pod says; undefined if it is not what conn-test-probe prints. */
export function parseProbeLog(log: string): readonly ProbedTarget[] | undefined {
  const line = log.split('\n').findLast((text) => text.startsWith('['));
  if (line === undefined) return undefined;
  try {
    return JSON.parse(line) as readonly ProbedTarget[];
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** One row for each target of a node. */
export function connectionRows(
  node: IpvsBpfNode,
  targets: readonly ConnectionTarget[],
  outcome: { readonly probed: readonly ProbedTarget[] } | { readonly problem: string },
): readonly ConnectionTestRow[] {
  const probed = new Map('probed' in outcome ? outcome.probed.map((entry) => [entry.target, entry]) : []);
  const accelerated = acceleratedBy(node);
  return targets.map(({ service, target }) => {
    const found = probed.get(target);
    const message = 'problem' in outcome ? outcome.problem : 'The pod did not say what became of it.';
    return {
      node: node.metadata.name,
      service,
      target,
      result: found?.result ?? 'NotTried',
      milliseconds: found?.milliseconds ?? null,
      message: found === undefined ? message : '',
      accelerated: accelerated(service),
    };
  });
}

function acceleratedBy({ status }: IpvsBpfNode): (service: string) => boolean {
  const runs = conditionOf(status?.conditions, 'Ready')?.reason === 'Accelerating';
  const rejected = new Set((status?.rejectedServices ?? []).map((entry) => keyOf(entry)));
  return (service) => runs && !rejected.has(service);
}
