// SPDX-License-Identifier: Apache-2.0
/** A cluster for tests of planning, and agents that do what they are asked, or fail. */
import type { IpvsBpfNode, IpvsBpfPolicy } from '../../../../src/api/generated/resource-types.ts';
import { NATIVE_REVISION, type NodeResourceStatus, type PolicySpec } from '../../../../src/api/resources.ts';
import type { ClusterFacts } from '../../../../src/core/cluster-facts.ts';
import type { ClusterStep } from '../../../../src/core/cluster-steps.ts';
import { whitelistRevision } from '../../../../src/core/node-spec.ts';
import { planCluster } from '../../../../src/core/policy-plan.ts';
import { condition, facts, keptFacts, node, nodeObject } from './builders.ts';

/** A cluster in which everything that is planned is done at once, and agents do what they are asked. */
export class World {
  state: ClusterFacts;
  /** Everything that the statuses of policies have said so far, and the Events: "Ready True AllNodesReady". */
  readonly told = new Set<string>();

  constructor(policies: readonly IpvsBpfPolicy[], nodes: readonly string[]) {
    this.state = facts({ policies, nodes: nodes.map((name) => node(name)) });
  }

  plan(): readonly ClusterStep[] {
    const { steps } = planCluster(keptFacts(this.state));
    for (const step of steps) {
      this.state = written(this.state, step);
      for (const text of sayings(step)) this.told.add(text);
    }
    return steps;
  }

  /** The agents answer for the specs that are there. */
  report(status: (object: IpvsBpfNode) => NodeResourceStatus): void {
    const nodeObjects = this.state.nodeObjects.map((object) => {
      const conditions = [
        ...(status(object).conditions ?? []),
        ...(object.status?.conditions ?? []).filter(({ type }) => OPERATORS.includes(type)),
      ];
      const observedGeneration = object.metadata.generation ?? 0;
      return { ...object, status: { ...status(object), observedGeneration, conditions } };
    });
    this.state = { ...this.state, nodeObjects };
  }

  after(seconds: number): void {
    const now = this.state.now + seconds * 1000;
    const agents = Object.fromEntries(
      Object.entries(this.state.agents).map(([name, agent]) => [name, { ...agent, renewedAt: now }]),
    );
    this.state = { ...this.state, now, agents };
  }

  edit(name: string, change: Partial<PolicySpec>): void {
    const policies = this.state.policies.map((each) =>
      each.metadata.name === name
        ? {
            ...each,
            metadata: { ...each.metadata, generation: (each.metadata.generation ?? 0) + 1 },
            spec: { ...each.spec, ...change },
          }
        : each,
    );
    this.state = { ...this.state, policies };
  }

  /** type=status reason of a policy's conditions */
  conditions(name: string): Record<string, string> {
    const found = this.state.policies.find(({ metadata }) => metadata.name === name);
    return Object.fromEntries(
      (found?.status?.conditions ?? []).map(({ type, status, reason }) => [type, `${status} ${reason}`]),
    );
  }

  settle(status: (object: IpvsBpfNode) => NodeResourceStatus): void {
    for (let round = 0; round < 30; round += 1) {
      this.plan();
      this.report(status);
      this.after(100);
    }
    this.plan();
  }
}

/** Conditions of a node that the operator writes. */
const OPERATORS: readonly string[] = ['AgentReachable', 'ModuleDelivered'];

/** What a step tells users. */
function sayings(step: ClusterStep): readonly string[] {
  if (step.kind === 'recordEvent') return [`Event ${step.type} ${step.reason}`];
  if (step.kind === 'applyNodeConditions') {
    return step.conditions.map(({ type, status, reason }) => `${type} ${status} ${reason}`);
  }
  if (step.kind !== 'applyPolicyStatus') return [];
  const { conditions = [], waitingNodes = [], problemNodes = [] } = step.status;
  return [
    ...conditions.map(({ type, status, reason }) => `${type} ${status} ${reason}`),
    ...waitingNodes.map(({ reason }) => `waitingNodes ${reason}`),
    ...problemNodes.map(({ reason }) => `problemNodes ${reason}`),
  ];
}

function written(state: ClusterFacts, step: ClusterStep): ClusterFacts {
  switch (step.kind) {
    case 'applyPolicyStatus':
    case 'addFinalizer': {
      const policies = state.policies.map((each) => {
        if (each.metadata.name !== step.policy.metadata.name) return each;
        if (step.kind === 'applyPolicyStatus') return { ...each, status: step.status };
        return { ...each, metadata: { ...each.metadata, finalizers: ['ipvs-bpf.io/revert-nodes'] } };
      });
      return { ...state, policies };
    }
    case 'applyNode': {
      const old = state.nodeObjects.find(({ metadata }) => metadata.name === step.name);
      const made = nodeObject(step.name, step.spec);
      const generation = (old?.metadata.generation ?? 0) + 1;
      const metadata = { ...made.metadata, generation, annotations: step.annotations };
      const next = { ...made, metadata, status: old?.status ?? {} };
      return { ...state, nodeObjects: [...state.nodeObjects.filter((each) => each !== old), next] };
    }
    case 'deleteNode':
      return {
        ...state,
        nodeObjects: state.nodeObjects.filter(({ metadata }) => metadata.name !== step.name),
      };
    case 'applySlice': {
      const rest = state.slices.filter(({ metadata }) => metadata.name !== step.name);
      const slice = {
        apiVersion: 'ipvs-bpf.io/v1alpha1' as const,
        kind: 'IpvsBpfServiceSlice' as const,
        metadata: { name: step.name },
        spec: step.spec,
      };
      return { ...state, slices: [...rest, slice] };
    }
    case 'deleteSlice':
      return { ...state, slices: state.slices.filter(({ metadata }) => metadata.name !== step.name) };
    case 'applyNodeConditions': {
      const nodeObjects = state.nodeObjects.map((each) =>
        each.metadata.name === step.name
          ? {
              ...each,
              status: {
                ...each.status,
                conditions: [
                  ...(each.status?.conditions ?? []).filter(({ type }) => !OPERATORS.includes(type)),
                  ...step.conditions,
                ],
              },
            }
          : each,
      );
      return { ...state, nodeObjects };
    }
    case 'removeFinalizer':
      return {
        ...state,
        policies: state.policies.filter(({ metadata }) => metadata.name !== step.policy.metadata.name),
      };
    case 'recordEvent':
      return state;
  }
}

/** An agent for which everything goes well. */
export const good =
  (world: World) =>
  ({ spec, status }: IpvsBpfNode): NodeResourceStatus => {
    const before = status?.appliedRevision ?? NATIVE_REVISION;
    const appliedRevision = spec.disruptionGrant === undefined ? before : spec.revision;
    const reached =
      spec.action === 'Observe' || spec.mode === 'Disabled' || appliedRevision === spec.revision;
    return {
      appliedRevision,
      attempt: appliedRevision === spec.revision ? (spec.attempt ?? 0) : 0,
      services: {
        revision: whitelistRevision(
          world.state.slices
            .filter((slice) => slice.spec.policyRef.name === spec.policyRef.name)
            .flatMap((slice) => slice.spec.services),
        ),
      },
      conditions: [condition('PreflightPassed', 'True'), condition('Ready', reached ? 'True' : 'False')],
    };
  };

/** An agent that fails and goes back. */
export const bad = ({ spec, status }: IpvsBpfNode): NodeResourceStatus => {
  const tried = spec.disruptionGrant !== undefined || status?.lastFailure?.revision === spec.revision;
  return {
    appliedRevision: NATIVE_REVISION,
    attempt: tried ? (spec.attempt ?? 0) : 0,
    ...(tried
      ? {
          lastFailure: {
            revision: spec.revision,
            reason: 'InsertFailed',
            message: 'no',
            rollback: 'Succeeded',
          },
        }
      : {}),
    conditions: [condition('PreflightPassed', 'True'), condition('Ready', 'False')],
  };
};
