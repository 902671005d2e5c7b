// SPDX-License-Identifier: Apache-2.0
/** Apply: each step of a plan as a call of the API server. */
import { POLICY_LABEL } from '../api/resources.ts';
import type { Cluster } from '../cluster-ports.ts';
import type { ClusterStep } from '../core/cluster-steps.ts';
import { apiVersionOf, type KubeObject, type ResourceType } from '../core/kube-object.ts';
import { IPVS_BPF_NODES, POLICIES, SERVICE_SLICES } from '../core/resource-types.ts';
import type { OverlayStore } from './overlay.ts';

/** Owner of the fields that the operator writes. */
export const MANAGER = 'ipvs-bpf-operator';

export interface Executor {
  readonly cluster: Cluster;
  readonly policies: OverlayStore;
  readonly nodeObjects: OverlayStore;
  readonly slices: OverlayStore;
  /** Adds the finalizer to a policy, or takes it away from one that is being deleted. */
  readonly settleFinalizer: (policy: KubeObject) => Promise<KubeObject | undefined>;
}

const APPLY = { manager: MANAGER, onConflict: 'TakeOver' } as const;

/** What a step is about, "IpvsBpfNode/n1": a failure holds up later steps about the same. */
export function subjectOf(step: ClusterStep): string {
  switch (step.kind) {
    case 'addFinalizer':
    case 'removeFinalizer':
    case 'applyPolicyStatus':
      return `${POLICIES.kind}/${step.policy.metadata.name}`;
    case 'applySlice':
    case 'deleteSlice':
      return `${SERVICE_SLICES.kind}/${step.name}`;
    case 'applyNode':
    case 'deleteNode':
    case 'applyNodeConditions':
      return `${IPVS_BPF_NODES.kind}/${step.name}`;
    case 'recordEvent':
      return `Event/${step.about.kind}/${step.about.name}`;
    default:
      return assertNever(step);
  }
}

/** @throws ClusterError */
export async function execute(step: ClusterStep, on: Executor): Promise<void> {
  switch (step.kind) {
    case 'addFinalizer':
    case 'removeFinalizer':
      return settleFinalizer(step, on);
    case 'applySlice':
      return applySlice(step, on);
    case 'applyNode':
      return applyNode(step, on);
    case 'deleteSlice':
      return remove(SERVICE_SLICES, on.slices, step.name, on);
    case 'deleteNode':
      return remove(IPVS_BPF_NODES, on.nodeObjects, step.name, on, step.uid);
    case 'applyNodeConditions':
      return applyNodeConditions(step, on);
    case 'applyPolicyStatus':
      return applyPolicyStatus(step, on);
    case 'recordEvent':
      return recordEvent(step, on);
    default:
      return assertNever(step);
  }
}

type StepOf<Kind extends ClusterStep['kind']> = Extract<ClusterStep, { kind: Kind }>;

function object(type: ResourceType, metadata: KubeObject['metadata'], content: object): KubeObject {
  return { apiVersion: apiVersionOf(type), kind: type.kind, metadata, ...content };
}

async function settleFinalizer(
  { policy }: StepOf<'addFinalizer'> | StepOf<'removeFinalizer'>,
  on: Executor,
): Promise<void> {
  const written = await on.settleFinalizer(policy as unknown as KubeObject);
  if (written === undefined) return;
  const { deletionTimestamp, finalizers = [] } = written.metadata;
  if (deletionTimestamp !== undefined && finalizers.length === 0) on.policies.deleted(written);
  else on.policies.wrote(written);
}

async function applySlice({ name, spec }: StepOf<'applySlice'>, on: Executor): Promise<void> {
  const { policyRef } = spec;
  const owner = { apiVersion: apiVersionOf(POLICIES), kind: POLICIES.kind, ...policyRef };
  const metadata = { name, labels: { [POLICY_LABEL]: policyRef.name }, ownerReferences: [owner] };
  on.slices.wrote(await on.cluster.apply(SERVICE_SLICES, object(SERVICE_SLICES, metadata, { spec }), APPLY));
}

async function applyNode({ name, spec, annotations }: StepOf<'applyNode'>, on: Executor): Promise<void> {
  const metadata = { name, labels: { [POLICY_LABEL]: spec.policyRef.name }, annotations };
  on.nodeObjects.wrote(
    await on.cluster.apply(IPVS_BPF_NODES, object(IPVS_BPF_NODES, metadata, { spec }), APPLY),
  );
}

async function remove(
  type: ResourceType,
  store: OverlayStore,
  name: string,
  on: Executor,
  uid?: string,
): Promise<void> {
  const known = store.get({ name });
  await on.cluster.delete(type, { name }, uid ?? known?.metadata.uid);
  if (known !== undefined) store.deleted(known);
}

async function applyNodeConditions(
  { name, conditions }: StepOf<'applyNodeConditions'>,
  on: Executor,
): Promise<void> {
  const status = { conditions };
  on.nodeObjects.wrote(
    await on.cluster.applyStatus(IPVS_BPF_NODES, object(IPVS_BPF_NODES, { name }, { status }), APPLY),
  );
}

async function applyPolicyStatus(
  { policy, status }: StepOf<'applyPolicyStatus'>,
  on: Executor,
): Promise<void> {
  const { name, uid } = policy.metadata;
  // The uid keeps the status of a policy that is gone from one that has taken its name.
  const metadata = { name, ...(uid === undefined ? {} : { uid }) };
  on.policies.wrote(await on.cluster.applyStatus(POLICIES, object(POLICIES, metadata, { status }), APPLY));
}

async function recordEvent(
  { about, type, reason, message }: StepOf<'recordEvent'>,
  on: Executor,
): Promise<void> {
  const kind = about.kind === 'IpvsBpfPolicy' ? POLICIES : IPVS_BPF_NODES;
  const { name, uid } = about;
  await on.cluster.record({ about: object(kind, { name, uid }, {}), type, reason, message });
}

function assertNever(step: never): never {
  throw new Error(`unknown step ${JSON.stringify(step)}`);
}
