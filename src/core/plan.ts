// SPDX-License-Identifier: Apache-2.0
/** From what is and what should be to what is to be done. A plan that was carried out leaves an empty plan. */
import type { NodeConfig } from '../api/generated/node-config-types.ts';
import { armSteps, disarmSteps, isAtNextBoot, loadedAtBoot } from './boot.ts';
import {
  type Baseline,
  currentRecord,
  moduleOrigin,
  type NodeFacts,
  type NodeRecord,
  switchIsOn,
} from './facts.ts';
import { SELF_CHECK_PREFIX } from './interfaces.ts';
import { detachSteps, moduleHoldsOtherMaps, planDatapath, planSysctls } from './plan-datapath.ts';
import { detachLeftLoopback, detachLoopback, prepareHold } from './plan-hold.ts';
import {
  finishInterrupted,
  isRightModule,
  removeUnused,
  swapToInTree,
  swapToPatched,
  withoutProxy,
} from './plan-module.ts';
import { isTestServer } from './self-check-network.ts';
import type { Step, StepKind } from './steps.ts';

/**
 * Steps after which a packet should show that everything works together. Not `attach`: the check goes through
 * interfaces of its own, and where each pod has one, each pod that starts would halt kube-proxy for it.
 */
const CHECKED: ReadonlySet<StepKind> = new Set(['insertModule', 'loadDatapath', 'giveMaps', 'setSwitch']);

/** True if the module has to be exchanged, and nobody is answered for a moment. */
export function needsSwap(config: NodeConfig, facts: NodeFacts): boolean {
  if (config.mode === 'Disabled') return false;
  return !isRightModule(facts) || moduleHoldsOtherMaps(config, facts);
}

/** True if the module that is loaded is not the right one and only a boot may change that. */
export function lacksModuleUntilBoot(config: NodeConfig, facts: NodeFacts, record: NodeRecord): boolean {
  // An exchange that was begun is finished: the node has no table to go on with.
  const halfway = currentRecord(record, facts.bootId).saved?.flushed === true;
  return isAtNextBoot(config) && needsSwap(config, facts) && !halfway;
}

/** True if a patched module that is not the right one does its work all the same. */
export function worksAsItIs(config: NodeConfig, facts: NodeFacts): boolean {
  return moduleOrigin(facts) === 'Patched' && switchIsOn(facts) && !moduleHoldsOtherMaps(config, facts);
}

/** The steps of a node that is to have its module by its next boot: it is native until then. */
export function planWaitForBoot(
  config: NodeConfig,
  facts: NodeFacts,
  rawRecord: NodeRecord,
): readonly Step[] {
  const record = currentRecord(rawRecord, facts.bootId);
  const steps: readonly Step[] = [
    ...removeLeftovers(facts, record),
    ...(switchIsOn(facts) ? ([{ kind: 'setSwitch', on: false, wasOn: true }] as const) : []),
    ...finishInterrupted(facts, record),
    ...armSteps(config, facts),
  ];
  return [...steps, ...thawLeftOver(steps, record)];
}

/** The steps that make the machine what the config asks for. */
export function planUp(config: NodeConfig, facts: NodeFacts, rawRecord: NodeRecord): readonly Step[] {
  const record = currentRecord(rawRecord, facts.bootId);
  const waits = lacksModuleUntilBoot(config, facts, record);
  const steps =
    waits && !worksAsItIs(config, facts)
      ? planWaitForBoot(config, facts, rawRecord)
      : planNow(config, facts, record, !waits && needsSwap(config, facts));
  if (steps.length === 0 || record.baseline !== undefined || config.mode === 'Disabled') return steps;
  return [{ kind: 'recordBaseline', baseline: baselineOf(facts) }, ...steps];
}

function planNow(config: NodeConfig, facts: NodeFacts, record: NodeRecord, swap: boolean): readonly Step[] {
  const leftovers = [
    ...(config.module.activation === 'NextBoot' ? [] : disarmSteps(facts)),
    ...removeLeftovers(facts, record),
  ];
  if (config.mode === 'Disabled') {
    const steps = [...leftovers, ...planDisabled(facts, record), ...armSteps(config, facts)];
    return [...steps, ...thawLeftOver(steps, record)];
  }
  const mode: readonly Step[] = [
    ...leftovers,
    ...(swap
      ? swapToPatched(config, facts, record)
      : [...finishInterrupted(facts, record), ...detachLeftLoopback(config, facts)]),
    ...planDatapath(config, facts, record, swap),
    ...planSysctls(config, facts, record),
    ...(swap || !switchIsOn(facts) ? ([{ kind: 'setSwitch', on: true, wasOn: false }] as const) : []),
  ];
  const checked = mode.some(({ kind }) => CHECKED.has(kind)) || record.unfinished?.verb === 'up';
  // kube-proxy removes virtual servers that it does not know, so also the check's.
  const check = checked ? withoutProxy(facts, record, [{ kind: 'selfCheck' }]) : [];
  return [...mode, ...check, ...thawLeftOver([...mode, ...check], record), ...armSteps(config, facts)];
}

/** Switches off; an interrupted exchange of modules is brought to its end first. */
function planDisabled(facts: NodeFacts, record: NodeRecord): readonly Step[] {
  const off: readonly Step[] = switchIsOn(facts) ? [{ kind: 'setSwitch', on: false, wasOn: true }] : [];
  const lost = record.saved?.flushed === true && moduleOrigin(facts) === 'Absent';
  if (!lost) return [...off, ...finishInterrupted(facts, record)];
  return [...swapToInTree(facts, record), ...removeUnused(record)];
}

/** The steps that leave the machine as it was before the first `up`. Needs no config. */
export function planDown(
  facts: NodeFacts,
  rawRecord: NodeRecord,
  options: { readonly drainTimeoutMs: number },
): readonly Step[] {
  const record = currentRecord(rawRecord, facts.bootId);
  const origin = moduleOrigin(facts);
  const steps: readonly Step[] = [
    ...disarmSteps(facts),
    ...removeLeftovers(facts, record),
    ...(switchIsOn(facts) ? ([{ kind: 'setSwitch', on: false, wasOn: true }] as const) : []),
    ...(options.drainTimeoutMs > 0 && facts.datapath !== undefined && origin === 'Patched'
      ? ([{ kind: 'drain', timeoutMs: options.drainTimeoutMs }] as const)
      : []),
    ...exchangeDown(facts, record),
    ...removeUnused(record),
  ];
  const forget: readonly Step[] = hasTraces(rawRecord) ? [{ kind: 'forgetAll' }] : [];
  return [...steps, ...thawLeftOver(steps, record), ...forget];
}

/** What a killed run stopped goes on, whatever else is to be done. */
function thawLeftOver(steps: readonly Step[], { frozen }: NodeRecord): readonly Step[] {
  if (frozen === undefined || steps.some(({ kind }) => kind === 'thawProxy')) return [];
  return [{ kind: 'thawProxy', processes: frozen.processes }];
}

/** The programs go last: until then they hold packets back. Unknown ones cannot, and may keep the module in use. */
function exchangeDown(facts: NodeFacts, record: NodeRecord): readonly Step[] {
  const module = moduleDown(facts, record);
  if (facts.datapath === undefined) return [...detachSteps(facts), ...module];
  const hold = module.some(({ kind }) => kind === 'removeModule') ? prepareHold(facts) : [];
  const release = hold.length === 0 ? [] : detachLoopback(facts);
  return [...hold, ...module, ...release, ...detachSteps(facts), { kind: 'unloadDatapath' }];
}

function moduleDown(facts: NodeFacts, record: NodeRecord): readonly Step[] {
  const origin = moduleOrigin(facts);
  const lost = origin === 'Absent' && record.baseline?.modules.includes('ip_vs') === true;
  const pending = record.saved?.flushed === true;
  if (origin === 'Patched' || lost || (pending && origin === 'Absent')) {
    return swapToInTree(withSwitchOff(facts), record);
  }
  return finishInterrupted(facts, record);
}

/** planDown() has turned it off already. */
function withSwitchOff(facts: NodeFacts): NodeFacts {
  if (!switchIsOn(facts)) return facts;
  return { ...facts, sysctls: { ...facts.sysctls, bpf_mode: '0' } };
}

function hasTraces(record: NodeRecord): boolean {
  return (
    record.baseline !== undefined ||
    record.saved !== undefined ||
    record.unfinished !== undefined ||
    record.frozen !== undefined ||
    record.lastDisruption !== undefined ||
    record.lastServiceId > 0
  );
}

/** A run that was killed may have left its test network. */
function removeLeftovers(facts: NodeFacts, record: NodeRecord): readonly Step[] {
  const interrupted =
    record.unfinished?.step === 'selfCheck' || record.unfinished?.step === 'removeSelfCheck';
  const seen = facts.links.some(({ name }) => name.startsWith(SELF_CHECK_PREFIX));
  const listed = facts.ipvs?.virtualServers.some(isTestServer) === true;
  return interrupted || seen || listed ? [{ kind: 'removeSelfCheck' }] : [];
}

function baselineOf(facts: NodeFacts): Baseline {
  return {
    bootId: facts.bootId,
    // What a boot loaded because this program had armed it was not there before.
    modules: facts.modules
      .map(({ name }) => name)
      .filter((name) => name !== 'ip_vs' || !loadedAtBoot(facts))
      .toSorted(),
    managedSysctls: {},
  };
}
