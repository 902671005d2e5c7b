// SPDX-License-Identifier: Apache-2.0
/**
 * module.activation NextBoot: the module of a running node is not exchanged. The node is armed, and its next boot loads
 * the patched module.
 */
import type { NodeConfig } from '../api/generated/node-config-types.ts';
import { type ModuleFileFacts, moduleOrigin, type NodeFacts } from './facts.ts';
import type { Step } from './steps.ts';

/** True if only a boot may bring the module. A mode that needs no module waits for none. */
export function isAtNextBoot({ mode, module }: Pick<NodeConfig, 'mode' | 'module'>): boolean {
  return mode === 'Enabled' && module.activation === 'NextBoot';
}

/** What the next boot is to load, which may be for another revision than the one that runs until then. */
export function nextBootFile(facts: NodeFacts): ModuleFileFacts | undefined {
  return facts.nextBootFile ?? facts.moduleFile;
}

/** The files that make a boot load the module go: first of all steps, for modprobe must find the kernel's own again. */
export function disarmSteps({ boot }: NodeFacts): readonly Step[] {
  return boot.present ? [{ kind: 'disarmBoot' }] : [];
}

/** The files as they should be for the next boot, and this one confirmed if it loaded the module. */
export function armSteps(config: NodeConfig, facts: NodeFacts): readonly Step[] {
  if (config.module.activation !== 'NextBoot') return [];
  const file = nextBootFile(facts);
  if (isAtNextBoot(config) && file?.state === 'Found' && !isArmedWith(file.srcversion, facts)) {
    return [{ kind: 'armBoot', file: file.path, srcversion: file.srcversion }];
  }
  return confirmSteps(facts);
}

/** This boot has loaded the module, and has come as far as an agent that looks at the node. */
export function confirmSteps(facts: NodeFacts): readonly Step[] {
  const loaded = moduleOrigin(facts) === 'Patched' && facts.boot.unconfirmed === facts.bootId;
  return loaded ? [{ kind: 'confirmBoot' }] : [];
}

function isArmedWith(srcversion: string, { boot, kernelRelease }: NodeFacts): boolean {
  return boot.armed?.kernelRelease === kernelRelease && boot.armed.srcversion === srcversion;
}

/**
 * Why a boot that should have loaded the module for this config did not, for people; undefined if there was none, or
 * it did. A kernel that came with the boot has a module of its own, for which it was not armed.
 */
export function fellBack(config: NodeConfig, facts: NodeFacts): string | undefined {
  if (!isAtNextBoot(config) || moduleOrigin(facts) === 'Patched') return undefined;
  const { bootId } = facts;
  const { armed, last } = facts.boot;
  const file = nextBootFile(facts);
  const isForThis = file?.state === 'Found' && isArmedWith(file.srcversion, facts);
  if (armed !== undefined && !isForThis) return undefined;
  if (last?.bootId === bootId) {
    // What the boot found fault with may be what is missing or damaged now: nothing is armed then.
    return last.result === 'Loaded' || last.result === 'OtherKernel'
      ? undefined
      : `${last.result}: ${last.message}.`;
  }
  return armed === undefined || armed.bootId === bootId ? undefined : NOT_RUN;
}

const NOT_RUN =
  'NotRun: something loaded the kernel\'s own ip_vs before, or the state directory could not be written ("modprobe ' +
  '--show-depends ip_vs" on the node shows what else says how ip_vs is loaded).';

/** True if the module of this boot is the right one because the boot loaded it. */
export function loadedAtBoot({ boot, bootId }: NodeFacts): boolean {
  return boot.last?.bootId === bootId && boot.last.result === 'Loaded';
}
