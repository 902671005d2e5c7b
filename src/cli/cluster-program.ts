// SPDX-License-Identifier: Apache-2.0
/** The commands that ask a cluster. */
import { type Command, Option } from 'commander';
import {
  count,
  duration,
  interval,
  serviceName,
  several,
  withCluster,
  withHelp,
  withOutput,
} from './options.ts';

const USAGE = 'wrong usage, or a kubeconfig that is not valid';
const UNREACHABLE = 'the API server does not answer, or does not allow what is needed';

export function addClusterCommands(program: Command): void {
  addStatus(program);
  addPreflight(program);
  addConnTest(program);
  addTop(program);
  addSysdump(program);
}

function addStatus(program: Command): void {
  const command = program
    .command('status')
    .description('what runs accelerated, what waits, what is wrong and where that is explained')
    .argument('[policy...]', 'only these IpvsBpfPolicies')
    .option('--wait', 'wait until everything is ready')
    .addOption(
      new Option('--wait-duration <time>', 'how long --wait waits: 90s, 5m, 1h')
        .argParser(duration)
        .default(300_000, '5m'),
    )
    .option('--ignore-warnings', 'leave out what is only to be known');
  withHelp(withCluster(withOutput(command)), {
    examples: ['ipvs-bpf status', 'kubectl ipvs-bpf status --wait --wait-duration 10m shop'],
    exit: {
      0: 'operator, agents and all (or the named) policies are ready',
      1: 'something is not',
      2: USAGE,
      3: UNREACHABLE,
    },
  }).action(async (policies: readonly string[], options) => {
    const { statusCommand } = await import('./status.ts');
    process.exitCode = await statusCommand(policies, options);
  });
}

function addPreflight(program: Command): void {
  const command = program
    .command('preflight')
    .description('what the checks of the nodes say, and which module each would get')
    .option('--kernel <release>', 'instead: which module nodes with this kernel (uname -r) would get');
  withHelp(withCluster(withOutput(command)), {
    examples: [
      'ipvs-bpf preflight',
      'ipvs-bpf preflight --kernel 6.12.60-amd64   # before an upgrade of the nodes',
    ],
    exit: {
      0: 'no check failed, and no policy lacks a module',
      1: 'a check failed, has not been made yet, or a policy has no module for a kernel',
      2: USAGE,
      3: UNREACHABLE,
    },
  }).action(async (options) => {
    const { preflightCommand } = await import('./preflight.ts');
    process.exitCode = await preflightCommand(options);
  });
}

function addConnTest(program: Command): void {
  const command = program
    .command('conn-test')
    .description('open a TCP connection to each whitelisted Service from a pod on each node')
    .option('--node <name>', 'only from this node; may be given several times', several)
    .option('--service <namespace/name>', 'only this Service; may be given several times', serviceName)
    .option('--image <image>', "image of the pods; default: the agents'")
    .option('--test-namespace <name>', 'where the pods are made; default: beside the agents')
    .addOption(
      new Option('--timeout <time>', 'how long a pod may take: 90s, 2m')
        .argParser(duration)
        .default(90_000, '90s'),
    );
  withHelp(withCluster(withOutput(command)), {
    examples: ['ipvs-bpf conn-test', 'ipvs-bpf conn-test --node n1 --service shop/web'],
    exit: {
      0: 'every connection was answered',
      1: 'at least one was not, or could not be tried',
      2: USAGE,
      3: UNREACHABLE,
    },
  }).action(async (options) => {
    const { connTestCommand } = await import('./conn-test.ts');
    process.exitCode = await connTestCommand(options);
  });
  program
    .command('conn-test-probe', { hidden: true })
    .description('what conn-test runs in its pods: connects to ADDRESS:PORT and prints what happened as JSON')
    .argument('<target...>')
    .action(async (targets: readonly string[]) => {
      const { probeCommand } = await import('./conn-test-probe.ts');
      process.exitCode = await probeCommand(targets);
    });
}

function addTop(program: Command): void {
  const command = program
    .command('top')
    .description('sessions, rates and accelerated share by Service, live')
    .option('--node <name>', 'only of this node; may be given several times', several)
    .option('--interval <seconds>', 'time between two looks', interval, 2)
    .option('--lines <number>', 'rows that are shown', count, 30)
    .option('--once', 'show one difference of two looks and end');
  withHelp(withCluster(withOutput(command)), {
    examples: ['ipvs-bpf top', 'ipvs-bpf top --node n1 --once -o json'],
    exit: { 0: 'it was shown', 1: 'a node could not be asked', 2: USAGE, 3: UNREACHABLE },
  }).action(async (options) => {
    const { topCommand } = await import('./top.ts');
    process.exitCode = await topCommand(options);
  });
}

function addSysdump(program: Command): void {
  const command = program
    .command('sysdump')
    .description('one archive for a bug report, without secrets')
    .addOption(
      new Option('-o, --output <file>', 'the archive').default(undefined, 'ipvs-bpf-sysdump-TIME.tar.gz'),
    )
    .option('--node <name>', 'only of this node; may be given several times', several)
    .option('--log-lines <number>', 'newest lines of each log', count, 5_000);
  withHelp(withCluster(command), {
    examples: ['ipvs-bpf sysdump', 'ipvs-bpf sysdump --node n1 -o n1.tar.gz'],
    exit: {
      0: 'the archive is complete',
      1: 'it was written, and lacks what its errors.txt lists',
      2: USAGE,
      3: UNREACHABLE,
    },
  }).action(async (options) => {
    const { sysdumpCommand } = await import('./sysdump.ts');
    process.exitCode = await sysdumpCommand(options);
  });
}
