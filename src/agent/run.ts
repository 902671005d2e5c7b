// SPDX-License-Identifier: Apache-2.0
/** `run`: keeps the machine as the config asks for, until it is told to end. */
import type { NodeConfig } from '../api/generated/node-config-types.ts';
import { type Node, up } from './reconcile.ts';

/** After a failure the pause doubles up to this, so that a module is not exchanged back and forth. */
const MAX_PAUSE_MS = 300_000;

export interface RunOptions {
  readonly intervalMs: number;
  /** Throws an error with all problems if the file is not a valid config. */
  readonly readConfig: () => Promise<NodeConfig>;
  /** Resolves after the time, or as soon as a signal came in; says which. */
  readonly pause: (milliseconds: number) => Promise<'elapsed' | 'reload' | 'stop'>;
}

/** Returns when told to stop, having changed nothing then. */
export async function run(first: NodeConfig, node: Node, options: RunOptions): Promise<void> {
  let config = first;
  let pauseMs = options.intervalMs;
  for (;;) {
    pauseMs = (await converge(config, node)) ? options.intervalMs : Math.min(pauseMs * 2, MAX_PAUSE_MS);
    const woken = await options.pause(pauseMs);
    if (woken === 'stop') return;
    if (woken === 'reload') config = await reload(config, node, options);
  }
}

async function converge(config: NodeConfig, node: Node): Promise<boolean> {
  try {
    const { steps, connectionsLost } = await up(config, node);
    if (steps.length > 0) node.log.info('node converged', { steps: steps.length, connectionsLost });
    return true;
  } catch (error) {
    node.log.error('node did not converge', {
      reason: error instanceof Error ? error.message : String(error),
    });
    return false;
  }
}

/** A bad file leaves the old config in force. */
async function reload(config: NodeConfig, node: Node, options: RunOptions): Promise<NodeConfig> {
  try {
    const next = await options.readConfig();
    node.log.info('config read again');
    return next;
  } catch (error) {
    node.log.error('config not read again, the old one stays in force', {
      reason: error instanceof Error ? error.message : String(error),
    });
    return config;
  }
}
