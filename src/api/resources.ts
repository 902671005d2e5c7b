// SPDX-License-Identifier: Apache-2.0
/** Names for the parts of our resources, and the labels and finalizers that go with them. */
import type { IpvsBpfNode, IpvsBpfPolicy, IpvsBpfServiceSlice } from './generated/resource-types.ts';

export type PolicySpec = IpvsBpfPolicy['spec'];
export type PolicyStatus = NonNullable<IpvsBpfPolicy['status']>;
export type NodeSpec = IpvsBpfNode['spec'];
export type NodeResourceStatus = NonNullable<IpvsBpfNode['status']>;
export type ServiceSliceSpec = IpvsBpfServiceSlice['spec'];
export type SliceService = ServiceSliceSpec['services'][number];
export type LabelSelector = PolicySpec['nodeSelector'];
export type Condition = NonNullable<PolicyStatus['conditions']>[number];
export type ServiceRejection = NonNullable<PolicyStatus['rejectedServices']>[number];
export type ServiceCaveat = NonNullable<PolicyStatus['serviceCaveats']>[number];

/** On IpvsBpfNodes and IpvsBpfServiceSlices: the policy that they belong to. */
export const POLICY_LABEL = 'ipvs-bpf.io/policy';
/** On a Node, "true": leave it alone, whatever a policy selects. */
export const SKIP_LABEL = 'ipvs-bpf.io/skip';
/** On an IpvsBpfPolicy: it stays until all of its nodes are what they were. */
export const POLICY_FINALIZER = 'ipvs-bpf.io/revert-nodes';
/** On an IpvsBpfPolicy: change the value, and nodes that failed try again. */
export const RETRY_ANNOTATION = 'ipvs-bpf.io/retry';
/** The revision of a node that is as it was before the first change. */
export const NATIVE_REVISION = 'native';
