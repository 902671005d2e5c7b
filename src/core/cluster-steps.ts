// SPDX-License-Identifier: Apache-2.0
/** What the operator writes. Every step can be done twice; those of a plan are done in their order. */
import type { IpvsBpfPolicy } from '../api/generated/resource-types.ts';
import type { Condition, NodeSpec, PolicyStatus, ServiceSliceSpec } from '../api/resources.ts';

export type ClusterStep =
  /** Before anything else of the policy is done. */
  | { readonly kind: 'addFinalizer'; readonly policy: IpvsBpfPolicy }
  /** All nodes are what they were: the policy may go. */
  | { readonly kind: 'removeFinalizer'; readonly policy: IpvsBpfPolicy }
  /** Creates the slice, or makes it like this; labelled with its policy, owned by it. */
  | { readonly kind: 'applySlice'; readonly name: string; readonly spec: ServiceSliceSpec }
  | { readonly kind: 'deleteSlice'; readonly name: string }
  /** Creates the IpvsBpfNode, or makes its spec and annotations like this; labelled with its policy. */
  | {
      readonly kind: 'applyNode';
      readonly name: string;
      readonly spec: NodeSpec;
      readonly annotations: Readonly<Record<string, string>>;
    }
  | { readonly kind: 'deleteNode'; readonly name: string; readonly uid?: string }
  /** Of a node's status only these conditions are the operator's: all of them. */
  | {
      readonly kind: 'applyNodeConditions';
      readonly name: string;
      readonly conditions: readonly Condition[];
    }
  /** The whole status. */
  | { readonly kind: 'applyPolicyStatus'; readonly policy: IpvsBpfPolicy; readonly status: PolicyStatus }
  | {
      readonly kind: 'recordEvent';
      readonly about:
        | { readonly kind: 'IpvsBpfPolicy'; readonly name: string; readonly uid: string }
        | { readonly kind: 'IpvsBpfNode'; readonly name: string; readonly uid: string };
      readonly type: 'Normal' | 'Warning';
      readonly reason: string;
      readonly message: string;
    };

export interface ClusterPlan {
  readonly steps: readonly ClusterStep[];
  /** When to plan again although nothing has changed, in milliseconds since 1970; undefined: not because of time. */
  readonly recheckAt?: number;
}
