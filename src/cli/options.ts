// SPDX-License-Identifier: Apache-2.0
/** What several commands have in common: exit statuses, options, and what a value may be. */
import { type Command, InvalidArgumentError, Option } from 'commander';

/** Exit statuses; docs/cli.md explains them for each command. */
export const EXIT = {
  ok: 0,
  /** The answer is no: not ready, a check failed, something could not be done. */
  failed: 1,
  /** Wrong usage, or a config or kubeconfig that is not valid. */
  usage: 2,
  /** The API server does not answer, or does not allow what is needed. */
  unreachable: 3,
} as const;

/** What the user asked for cannot be done as it stands: ends with status 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The API server does not allow something: ends with status 3. */
export class NotAllowed extends Error {
  override readonly name = 'NotAllowed';
  /** What the user can do. */
  readonly advice = 'docs/cli.md#the-cluster lists the rights that each command needs.';
}

/** How the API server is found, as kubectl does. */
export interface ClusterOptions {
  readonly kubeconfig?: string;
  readonly context?: string;
  /** Where operator and agents are; unset: wherever they are found. */
  readonly namespace?: string;
}

export type OutputFormat = 'text' | 'json';

/** "300", "90s", "5m", "1h" in milliseconds. Throws InvalidArgumentError. */
export function duration(text: string): number {
  const [, number, unit = 's'] = /^(\d+(?:\.\d+)?)(s|m|h)?$/.exec(text) ?? [];
  if (number === undefined) throw new InvalidArgumentError('must be a time such as 90s, 5m or 1h.');
  return Number(number) * { s: 1_000, m: 60_000, h: 3_600_000 }[unit as 's' | 'm' | 'h'];
}

/** Throws InvalidArgumentError. */
export function seconds(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || value < 0) {
    throw new InvalidArgumentError('must be a number of seconds.');
  }
  return value;
}

/** Seconds between two looks. Throws InvalidArgumentError. */
export function interval(text: string): number {
  const value = seconds(text);
  if (value < 0.1) throw new InvalidArgumentError('must be at least 0.1 seconds.');
  return value;
}

/** Throws InvalidArgumentError. */
export function count(text: string): number {
  if (!/^[1-9]\d{0,6}$/.test(text)) throw new InvalidArgumentError('must be a number, 1 or more.');
  return Number(text);
}

/** "namespace/name". Throws InvalidArgumentError. */
export function serviceName(text: string, before: readonly string[] = []): readonly string[] {
  if (!/^[^/\s]+\/[^/\s]+$/.test(text)) throw new InvalidArgumentError('must be NAMESPACE/NAME.');
  return [...before, text];
}

/** Collects an option that may be given several times. */
export function several(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text];
}

export function withOutput(command: Command): Command {
  return command.addOption(
    new Option('-o, --output <format>', 'form of the result').choices(['text', 'json']).default('text'),
  );
}

export function withCluster(command: Command): Command {
  return command
    .option(
      '--kubeconfig <file>',
      'how to reach the cluster; default as kubectl: KUBECONFIG, ~/.kube/config, the pod',
    )
    .option('--context <name>', 'context of the kubeconfig')
    .option('-n, --namespace <name>', 'namespace of operator and agents; default: wherever they are');
}

export interface HelpParts {
  /** Lines "ipvs-bpf … # what for" */
  readonly examples?: readonly string[];
  /** Status → what it means. */
  readonly exit: Readonly<Record<number, string>>;
}

/** Examples and exit statuses below the options. */
export function withHelp(command: Command, { examples = [], exit }: HelpParts): Command {
  const lines = Object.entries(exit).map(([status, meaning]) => `  ${status}  ${meaning}`);
  const shown = examples.length === 0 ? '' : `\nExamples:\n${examples.map((line) => `  ${line}\n`).join('')}`;
  return command.addHelpText('after', `${shown}\nExit status:\n${lines.join('\n')}`);
}
