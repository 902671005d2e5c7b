// SPDX-License-Identifier: Apache-2.0
/** The command line. Everything heavy is imported only when a command runs. */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { LOG_FORMATS, LOG_LEVELS } from './runtime/logger.ts';

const USAGE = 2;
/** The bundle is in dist/, this file in src/: build/ is beside both. */
const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');

const EXIT_CODES = `
Exit status:
  0  the node is as asked for
  1  it is not, or could not be made so
  2  wrong usage, or a config that is not valid`;

type Commands = typeof import('./agent/commands.ts');

function seconds(text: string): number {
  const value = Number(text);
  if (!Number.isFinite(value) || value < 0) throw new InvalidArgumentError('must be a number of seconds.');
  return value;
}

function interval(text: string): number {
  const value = seconds(text);
  if (value < 0.1) throw new InvalidArgumentError('must be at least 0.1 seconds.');
  return value;
}

function common(command: Command): Command {
  return command
    .option('--state-dir <directory>', 'where the baseline is kept', '/var/lib/ipvs-bpf')
    .addOption(
      new Option('--build-dir <directory>', 'where bpf/ipvs_tc.bpf.o and RELEASE/ip_vs.ko are')
        .env('IPVS_BPF_BUILD_DIR')
        .default(join(ROOT, 'build')),
    )
    .addOption(
      new Option('-o, --output <format>', 'form of the result').choices(['text', 'json']).default('text'),
    )
    .addOption(new Option('--log-format <format>', 'form of log lines').choices(LOG_FORMATS).default('text'))
    .addOption(
      new Option('--log-level <level>', 'least level that is logged').choices(LOG_LEVELS).default('warn'),
    )
    .addHelpText('after', EXIT_CODES);
}

function withConfig(command: Command): Command {
  return common(command.requiredOption('--config <file>', 'NodeConfig, YAML or JSON'));
}

/** Runs a command and keeps its exit status. */
function action<Options>(choose: (commands: Commands) => (options: Options) => Promise<number>) {
  return async (options: Options): Promise<void> => {
    process.exitCode = await choose(await import('./agent/commands.ts'))(options);
  };
}

function program(): Command {
  const root = new Command('ipvs-bpf').description('IPVS whose forwarding is done by eBPF').exitOverride();
  const node = root.command('node').description('accelerate the virtual servers of this machine');
  withConfig(node.command('up').description('make this machine what the config asks for')).action(
    action((commands) => commands.upCommand),
  );
  common(node.command('down').description('put back everything that up changed'))
    .option('--config <file>', 'not needed, and not read')
    .option('--drain-timeout <seconds>', 'wait this long for accelerated connections to end', seconds, 0)
    .action(action((commands) => commands.downCommand));
  withConfig(node.command('status').description('compare this machine with what the config asks for')).action(
    action((commands) => commands.statusCommand),
  );
  withConfig(
    node.command('run').description('keep this machine what the config asks for; SIGHUP reads it again'),
  )
    .option('--interval <seconds>', 'pause between two looks', interval, 5)
    .action(action((commands) => commands.runCommand));
  common(node.command('steps', { hidden: true }).description('list the steps of up (with --config) or down'))
    .option('--config <file>', 'NodeConfig, YAML or JSON')
    .action(action((commands) => commands.stepsCommand));
  root
    .command('agent')
    .description('look after a node of a Kubernetes cluster, as its IpvsBpfNode asks')
    .addHelpText('after', '\nConfigured by environment variables; docs/reference.md has them.')
    .action(async () => {
      const { runAgent } = await import('./agent/kubernetes-command.ts');
      process.exitCode = await runAgent(process.env, ROOT);
    });
  root
    .command('operator')
    .description('run the IpvsBpfPolicies of a Kubernetes cluster')
    .addHelpText('after', '\nConfigured by environment variables; docs/reference.md has them.')
    .action(async () => {
      const { runOperator } = await import('./operator/main.ts');
      process.exitCode = await runOperator(process.env);
    });
  root
    .command('uninstall-check')
    .description('refuse with status 1 while a policy or a changed node needs the operator')
    .option('--revert', 'delete the policies first, and wait until all nodes are put back', false)
    .option('--timeout <seconds>', 'wait this long for that', seconds, 240)
    .action(async ({ revert, timeout }: { readonly revert: boolean; readonly timeout: number }) => {
      const { runUninstallCheck } = await import('./operator/main.ts');
      await runUninstallCheck({ revert, timeoutMs: timeout * 1000 });
    });
  return root;
}

// Whoever reads the output may stop early ("| head"): that is no failure of the command.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

try {
  await program().parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : USAGE;
  } else {
    process.stderr.write(`${errorText(error)}\n`);
    process.exitCode = error instanceof Error && error.name === 'ConfigError' ? USAGE : 1;
  }
}

function errorText(error: unknown): string {
  if (!(error instanceof Error)) return `ipvs-bpf: ${error}`;
  const advice =
    'advice' in error && typeof error.advice === 'string' && !error.message.includes(error.advice);
  return `ipvs-bpf: ${error.message}${advice ? `\n${error.advice}` : ''}`;
}
