// SPDX-License-Identifier: Apache-2.0
/** The command line. Everything heavy is imported only when a command runs. */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CommanderError } from 'commander';
import { EXIT } from './cli/options.ts';
import { createProgram } from './cli/program.ts';

/** The bundle is in dist/, this file in src/: build/ is beside both. */
const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');

/** By name: what ends a command with another status than 1. */
const STATUS_OF: Readonly<Record<string, number>> = {
  ConfigError: EXIT.usage,
  UsageError: EXIT.usage,
  ClusterError: EXIT.unreachable,
  NotAllowed: EXIT.unreachable,
};

// Whoever reads the output may stop early ("| head"): that is no failure of the command.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

try {
  await createProgram(ROOT).parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : EXIT.usage;
  } else {
    process.stderr.write(`${errorText(error)}\n`);
    process.exitCode = (error instanceof Error ? STATUS_OF[error.name] : undefined) ?? EXIT.failed;
  }
}

function errorText(error: unknown): string {
  if (!(error instanceof Error)) return `ipvs-bpf: ${error}`;
  const advice =
    'advice' in error && typeof error.advice === 'string' && !error.message.includes(error.advice);
  return `ipvs-bpf: ${error.message}${advice ? `\n${error.advice}` : ''}`;
}
