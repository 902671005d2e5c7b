// SPDX-License-Identifier: Apache-2.0
/** The tree of commands. Everything heavy is imported only when a command runs. */
import { join } from 'node:path';
import { Argument, Command, Option } from 'commander';
import manifest from '../../package.json' with { type: 'json' };
import { LOG_FORMATS, LOG_LEVELS } from '../runtime/logger.ts';
import { addClusterCommands } from './cluster-program.ts';
import { count, interval, seconds, withHelp, withOutput } from './options.ts';

const NODE_EXIT = {
  0: 'the node is as asked for',
  1: 'it is not, or could not be made so',
  2: 'wrong usage, or a config that is not valid',
};

type NodeCommands = typeof import('../agent/commands.ts');

/** Runs a command of this machine and keeps its exit status. */
function onNode<Options>(choose: (commands: NodeCommands) => (options: Options) => Promise<number>) {
  return async (options: Options): Promise<void> => {
    process.exitCode = await choose(await import('../agent/commands.ts'))(options);
  };
}

/** @param root where build/ and dist/ are */
export function createProgram(root: string): Command {
  const program = new Command('ipvs-bpf')
    .description('IPVS whose forwarding is done by eBPF')
    .version(manifest.version)
    .exitOverride();
  addClusterCommands(program);
  addNodeCommands(program, root);
  addCompletion(program);
  addServices(program, root);
  return program;
}

function common(command: Command, root: string): Command {
  const shared = command
    .option('--state-dir <directory>', 'where the baseline is kept', '/var/lib/ipvs-bpf')
    .addOption(
      new Option('--build-dir <directory>', 'where bpf/ipvs_tc.bpf.o and RELEASE/ip_vs.ko are')
        .env('IPVS_BPF_BUILD_DIR')
        .default(join(root, 'build')),
    );
  return withOutput(shared)
    .addOption(new Option('--log-format <format>', 'form of log lines').choices(LOG_FORMATS).default('text'))
    .addOption(
      new Option('--log-level <level>', 'least level that is logged').choices(LOG_LEVELS).default('warn'),
    );
}

function addNodeCommands(program: Command, root: string): void {
  const node = program.command('node').description('accelerate the virtual servers of this machine');
  const withConfig = (command: Command): Command =>
    common(command.requiredOption('--config <file>', 'NodeConfig, YAML or JSON'), root);
  const help = (command: Command, ...examples: readonly string[]): Command =>
    withHelp(command, { examples, exit: NODE_EXIT });
  help(
    withConfig(node.command('up').description('make this machine what the config asks for')),
    'ipvs-bpf node up --config node-config.yaml',
  ).action(onNode((commands) => commands.upCommand));
  help(
    common(node.command('down').description('put back everything that up, or the agent, changed'), root)
      .option('--config <file>', 'not needed, and not read')
      .option('--drain-timeout <seconds>', 'wait this long for accelerated connections to end', seconds, 0),
    'ipvs-bpf node down    # the last resort: needs no API server; docs/cli.md says how on a node of a cluster',
  ).action(onNode((commands) => commands.downCommand));
  help(
    withConfig(node.command('status').description('compare this machine with what the config asks for')),
  ).action(onNode((commands) => commands.statusCommand));
  withHelp(withConfig(node.command('preflight').description('make the checks of up, and change nothing')), {
    exit: { ...NODE_EXIT, 0: 'up could begin', 1: 'a check failed' },
  }).action(onNode((commands) => commands.preflightCommand));
  help(
    withConfig(
      node.command('run').description('keep this machine what the config asks for; SIGHUP reads it again'),
    ).option('--interval <seconds>', 'pause between two looks', interval, 5),
  ).action(onNode((commands) => commands.runCommand));
  withHelp(
    common(node.command('top').description('sessions, rates and accelerated share by virtual server'), root)
      .option('--interval <seconds>', 'time between two looks', interval, 2)
      .option('--lines <number>', 'rows that are shown', count, 30)
      .option('--once', 'show one difference of two looks and end')
      .addOption(new Option('--times <number>', 'show this many and end').argParser(count).hideHelp()),
    { exit: { 0: 'it was shown', 1: 'the node could not be looked at', 2: NODE_EXIT[2] } },
  ).action(onNode((commands) => commands.topCommand));
  help(
    common(node.command('steps', { hidden: true }), root)
      .description('list the steps of up (with --config) or down')
      .option('--config <file>', 'NodeConfig, YAML or JSON'),
  ).action(onNode((commands) => commands.stepsCommand));
}

function addCompletion(program: Command): void {
  withHelp(
    program
      .command('completion')
      .description('print a script that makes the shell complete commands and options')
      .addArgument(new Argument('<shell>', 'for which shell').choices(['bash', 'zsh', 'fish'])),
    {
      examples: [
        'source <(ipvs-bpf completion bash)',
        'ipvs-bpf completion zsh > /usr/local/share/zsh/site-functions/_ipvs-bpf',
        'ipvs-bpf completion fish > ~/.config/fish/completions/ipvs-bpf.fish',
      ],
      exit: { 0: 'it was printed', 2: 'wrong usage' },
    },
  ).action(async (shell: 'bash' | 'zsh' | 'fish') => {
    const { completionScript } = await import('./completion.ts');
    process.stdout.write(completionScript(program, shell));
  });
}

/** What the chart runs. */
function addServices(program: Command, root: string): void {
  const exit = {
    0: 'it was told to end',
    1: 'it could not run',
    2: 'an environment variable is wrong',
    3: 'the API server does not answer, or does not allow what is needed',
  };
  const configured = '\nConfigured by environment variables; docs/reference.md has them.';
  withHelp(
    program
      .command('agent')
      .description('look after a node of a Kubernetes cluster, as its IpvsBpfNode asks')
      .addHelpText('after', configured),
    { exit },
  ).action(async () => {
    const { runAgent } = await import('../agent/kubernetes-command.ts');
    process.exitCode = await runAgent(process.env, root);
  });
  withHelp(
    program
      .command('operator')
      .description('run the IpvsBpfPolicies of a Kubernetes cluster')
      .addHelpText('after', configured),
    { exit },
  ).action(async () => {
    const { runOperator } = await import('../operator/main.ts');
    process.exitCode = await runOperator(process.env);
  });
  withHelp(
    program
      .command('uninstall-check')
      .description('refuse while a policy or a changed node needs the operator')
      .option('--revert', 'delete the policies first, and wait until all nodes are put back', false)
      .option('--timeout <seconds>', 'wait this long for that', seconds, 240),
    { exit: { ...exit, 0: 'nothing needs the operator any more', 1: 'something does' } },
  ).action(async ({ revert, timeout }: { readonly revert: boolean; readonly timeout: number }) => {
    const { runUninstallCheck } = await import('../operator/main.ts');
    await runUninstallCheck({ revert, timeoutMs: timeout * 1000 });
  });
}
