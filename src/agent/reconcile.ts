// SPDX-License-Identifier: Apache-2.0
/** Observe, plan, apply, report: for `up`, `down`, `status` and `run`. */
import type { NodeConfig } from '../api/generated/node-config-types.ts';
import type { NodeStatus } from '../api/node-status.ts';
import type { NodeFacts, NodeRecord } from '../core/facts.ts';
import { nodeStatus, notAccelerated } from '../core/node-status.ts';
import { PreflightFailed } from '../core/outcome.ts';
import { lacksModuleUntilBoot, planDown, planUp } from '../core/plan.ts';
import { type Check, preflight } from '../core/preflight.ts';
import { describeStep, type Step } from '../core/steps.ts';
import { type Execution, execute, type StepObserver, thawAll } from './execute.ts';
import type { KillPoint } from './kill-point.ts';
import type { Log } from './log.ts';
import { type NodePorts, observe, observeModuleFile } from './observe.ts';

export interface Node {
  readonly ports: NodePorts;
  readonly log: Log;
  readonly killPoint: KillPoint;
  /** Path of the patched module for a kernel release, if the config names none. */
  readonly defaultModuleFile: (kernelRelease: string) => string;
  /** Told how long each step took; nobody asks on a director. */
  readonly onStep?: StepObserver;
}

export interface Outcome {
  /** Steps that were carried out, in order. */
  readonly steps: readonly Step[];
  readonly warnings: readonly Check[];
  /** True if the module comes by the next boot. */
  readonly waitsForBoot: boolean;
  /** Connections of IPVS that did not outlive an exchange of its module. */
  readonly connectionsLost: number;
  /** What was observed last, if nothing was done after it. */
  readonly after?: Observation;
}

/** What the machine is like, and what is on disk about it. */
export interface Observation {
  readonly facts: NodeFacts;
  readonly record: NodeRecord;
}

/** A second round takes up what the first could not see, such as the ids of maps that it made. */
const MAX_ROUNDS = 3;

/** How far `up` may go; see Execution. */
export type UpOptions = Pick<Execution, 'limits' | 'keepAfterFailedCheck'> & {
  /** True on a node of Kubernetes. */
  readonly needsKubeProxy?: boolean;
  /** What was observed just now, with the steps that this config needs then: spares the first look. */
  readonly before?: Observation & { readonly steps: readonly Step[] };
};

/** What names the patched module: a config, or the spec of an IpvsBpfNode. */
type WithModule = Pick<NodeConfig, 'module'>;

function moduleFileOf({ module }: WithModule, node: Node): (kernelRelease: string) => string {
  return (release) => module.path ?? node.defaultModuleFile(release);
}

export function observeFor(config: WithModule, node: Node): Promise<NodeFacts> {
  return observe(node.ports, moduleFileOf(config, node));
}

/** The same facts, with those of another module file than was read for them, if this config has another one. */
export async function withModuleFileFor(
  config: WithModule,
  facts: NodeFacts,
  node: Node,
): Promise<NodeFacts> {
  const path = moduleFileOf(config, node)(facts.kernelRelease);
  if (facts.moduleFile?.path === path) return facts;
  return { ...facts, moduleFile: await observeModuleFile(node.ports.modules, path) };
}

async function observationFor(config: NodeConfig, node: Node): Promise<Observation> {
  return { facts: await observeFor(config, node), record: await node.ports.records.read() };
}

/** The steps that `up` would take now. */
export async function stepsUp(config: NodeConfig, node: Node): Promise<readonly Step[]> {
  return planUp(config, await observeFor(config, node), await node.ports.records.read());
}

/** The steps that `down` would take now. */
export async function stepsDown(node: Node, drainTimeoutMs = 0): Promise<readonly Step[]> {
  return planDown(await observe(node.ports), await node.ports.records.read(), { drainTimeoutMs });
}

/** Makes the machine what the config asks for. Throws PreflightFailed, StepFailed, HostError. */
export async function up(config: NodeConfig, node: Node, options: UpOptions = {}): Promise<Outcome> {
  const done: Step[] = [];
  let warnings: readonly Check[] = [];
  let after: Observation | undefined;
  let waitsForBoot = false;
  for (let round = 0; round < MAX_ROUNDS; round += 1) {
    const before = round === 0 ? options.before : undefined;
    const seen = before ?? withNextBootFile(await observationFor(config, node), options.before);
    const { facts } = seen;
    const steps = before?.steps ?? planUp(config, facts, seen.record);
    after = steps.length === 0 ? seen : undefined;
    waitsForBoot = lacksModuleUntilBoot(config, facts, seen.record);
    if (steps.length === 0 && round > 0) break;
    const checks = preflight(config, facts, options);
    if (checks.some(({ result }) => result === 'Fail')) {
      await thawAll(node.ports, node.log);
      throw new PreflightFailed(checks);
    }
    warnings = checks.filter(({ result }) => result === 'Warn');
    if (steps.length === 0) break;
    await execute(steps, { ...node, ...options, verb: 'up', bootId: facts.bootId });
    done.push(...steps);
  }
  const connectionsLost = await lostConnections(done, node);
  const outcome = { steps: done, warnings, waitsForBoot, connectionsLost };
  return after === undefined ? outcome : { ...outcome, after };
}

/** What the next boot is to load stays what it was, whatever the config says. */
function withNextBootFile(seen: Observation, first: Observation | undefined): Observation {
  const nextBootFile = first?.facts.nextBootFile;
  return nextBootFile === undefined ? seen : { ...seen, facts: { ...seen.facts, nextBootFile } };
}

/** Leaves the machine as it was before the first `up`. Throws StepFailed, HostError. */
export async function down(node: Node, drainTimeoutMs: number): Promise<Outcome> {
  const facts = await observe(node.ports);
  const steps = planDown(facts, await node.ports.records.read(), { drainTimeoutMs });
  const execution = { ...node, verb: 'down', bootId: facts.bootId } as const;
  // What was lost is in the records, which are forgotten last.
  const end = steps.findIndex(({ kind }) => kind === 'forgetAll');
  const work = end < 0 ? steps : steps.slice(0, end);
  if (work.length > 0) await execute(work, execution);
  const connectionsLost = await lostConnections(work, node);
  if (end >= 0) await execute(steps.slice(end), execution);
  return { steps, warnings: [], waitsForBoot: false, connectionsLost };
}

async function lostConnections(steps: readonly Step[], { ports }: Node): Promise<number> {
  if (!steps.some(({ kind }) => kind === 'restoreTable')) return 0;
  return (await ports.records.read()).lastDisruption?.connectionsDropped ?? 0;
}

/** The checks of `up`. Reads only. */
export async function checks(config: NodeConfig, node: Node): Promise<readonly Check[]> {
  return preflight(config, await observeFor(config, node));
}

export interface StatusReport {
  readonly status: NodeStatus;
  /** What differs from what the config asks for, as sentences; empty if nothing does. */
  readonly differences: readonly string[];
}

const WAITS_FOR_BOOT = 'to be done: a reboot, which loads the patched module';

/** Reads only. */
export async function status(config: NodeConfig, node: Node): Promise<StatusReport> {
  const facts = await observeFor(config, node);
  const report = nodeStatus(config, facts);
  const record = await node.ports.records.read();
  const steps = planUp(config, facts, record);
  const failed = preflight(config, facts).filter(({ result }) => result === 'Fail');
  return {
    status: report,
    differences: [
      ...failed.map(({ check, message }) => `${check}: ${message}`),
      ...steps.map((step) => `to be done: ${describeStep(step)}`),
      ...(lacksModuleUntilBoot(config, facts, record) ? [WAITS_FOR_BOOT] : []),
      ...notAccelerated(config, report).map(
        ({ address, port, protocol, reason }) =>
          `not accelerated: ${protocol} ${address} port ${port}: ${reason}`,
      ),
    ],
  };
}
