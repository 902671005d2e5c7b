// SPDX-License-Identifier: Apache-2.0
/** The `node` commands: each prints, and answers the exit status. */
import { describeStep } from '../core/steps.ts';
import { trafficScreen } from '../core/traffic-text.ts';
import { LineLogger, type LogFormat, type LogLevel } from '../runtime/logger.ts';
import { createNode, signalPause } from './main.ts';
import { readConfig } from './read-config.ts';
import { checks, down, status, stepsDown, stepsUp, up } from './reconcile.ts';
import { checksText, outcomeText, statusText } from './report.ts';
import { run } from './run.ts';
import { top } from './top.ts';

/** 0: the node is as asked for. 1: it is not, or could not be made so. 2: wrong usage or config. */
export const EXIT = { ok: 0, failed: 1, usage: 2 } as const;

export interface CommonOptions {
  readonly stateDir: string;
  readonly buildDir: string;
  readonly output: 'text' | 'json';
  readonly logFormat: LogFormat;
  readonly logLevel: LogLevel;
}

export type ConfigOptions = CommonOptions & { readonly config: string };

export async function upCommand(options: ConfigOptions): Promise<number> {
  const config = await readConfig(options.config);
  return withNode(options, 'locked', async (node) => {
    const outcome = await up(config, node);
    const { connectionsLost, warnings, waitsForBoot } = outcome;
    const json = {
      changed: outcome.steps.length > 0,
      steps: outcome.steps.map(({ kind }) => kind),
      connectionsLost,
      waitsForBoot,
      warnings,
    };
    print(options, json, outcomeText('up', outcome));
    return EXIT.ok;
  });
}

const AGENT_COMES_BACK =
  'This node is one of a cluster, and its policy wants it accelerated: its agent, when it starts again, will do so. ' +
  'Label the Node ipvs-bpf.io/skip=true, or change the policy, before that.\n';

export async function downCommand(
  options: CommonOptions & { readonly drainTimeout: number },
): Promise<number> {
  return withNode(options, 'locked', async (node) => {
    const outcome = await down(node, options.drainTimeout * 1000);
    const { connectionsLost } = outcome;
    const json = {
      changed: outcome.steps.length > 0,
      steps: outcome.steps.map(({ kind }) => kind),
      connectionsLost,
    };
    print(options, json, outcomeText('down', outcome));
    const action = (await node.memories.read()).target?.spec.action;
    if (action === 'Apply') process.stderr.write(AGENT_COMES_BACK);
    return EXIT.ok;
  });
}

export async function statusCommand(options: ConfigOptions): Promise<number> {
  const config = await readConfig(options.config);
  return withNode(options, 'reading', async (node) => {
    const report = await status(config, node);
    print(options, report.status, statusText(report));
    return report.differences.length === 0 ? EXIT.ok : EXIT.failed;
  });
}

export async function preflightCommand(options: ConfigOptions): Promise<number> {
  const config = await readConfig(options.config);
  return withNode(options, 'reading', async (node) => {
    const made = await checks(config, node);
    print(options, made, checksText(made));
    return made.some(({ result }) => result === 'Fail') ? EXIT.failed : EXIT.ok;
  });
}

export type TopOptions = CommonOptions & {
  readonly interval: number;
  readonly lines: number;
  readonly once?: true;
  readonly times?: number;
};

/** With JSON one line a look: that is what `ipvs-bpf top` reads from the agents' pods. */
export async function topCommand(options: TopOptions): Promise<number> {
  let gone = false;
  process.stdout.once('error', () => {
    gone = true;
  });
  const once = options.once === true;
  return withNode(options, 'reading', async (node) => {
    await top(node, {
      intervalMs: options.interval * 1000,
      times: once ? 1 : options.times,
      show: (rates) => {
        const { lines } = options;
        print(options, rates, trafficScreen(rates, { lines, once, terminal: process.stdout.isTTY }));
        return !gone;
      },
      pause: signalPause(),
    });
    return EXIT.ok;
  });
}

export async function runCommand(options: ConfigOptions & { readonly interval: number }): Promise<number> {
  const config = await readConfig(options.config);
  return withNode(options, 'locked', async (node) => {
    await run(config, node, {
      intervalMs: options.interval * 1000,
      readConfig: () => readConfig(options.config),
      pause: signalPause(),
    });
    return EXIT.ok;
  });
}

/** "attach eth0 Ingress" and so on: what would be done now, in the words of IPVS_BPF_KILL_AT. */
export async function stepsCommand(options: CommonOptions & { readonly config?: string }): Promise<number> {
  const config = options.config === undefined ? undefined : await readConfig(options.config);
  return withNode(options, 'reading', async (node) => {
    const steps = config === undefined ? await stepsDown(node) : await stepsUp(config, node);
    const names = steps.map(describeStep);
    print(options, names, names.map((name) => `${name}\n`).join(''));
    return EXIT.ok;
  });
}

function print(options: CommonOptions, json: unknown, text: string): void {
  process.stdout.write(options.output === 'json' ? `${JSON.stringify(json)}\n` : text);
}

async function withNode(
  options: CommonOptions,
  access: 'locked' | 'reading',
  act: (node: ReturnType<typeof createNode>) => Promise<number>,
): Promise<number> {
  const log = new LineLogger({ level: options.logLevel, format: options.logFormat });
  const node = createNode({ stateDirectory: options.stateDir, buildDirectory: options.buildDir, log });
  const unlock = access === 'locked' ? await node.ports.records.lock() : async () => {};
  try {
    return await act(node);
  } finally {
    await unlock();
    await log.close();
  }
}
