// SPDX-License-Identifier: Apache-2.0
/** npm run cluster -- COMMAND: see `usage`. */
import { Command, InvalidArgumentError } from 'commander';
import { down, ownLayout, up } from '../test/cluster/cluster.ts';
import { kubectl, runInClient, runOnNode } from '../test/cluster/commands.ts';
import { deploy, undeploy } from '../test/cluster/deploy.ts';
import { type IpFamilies, ipFamilies, parseIpFamilies } from '../test/cluster/ip-families.ts';
import { addresses, maxNodes, statePaths } from '../test/cluster/layout.ts';
import { ownImage } from '../test/cluster/own-image.ts';
import { clusterStatus } from '../test/cluster/status.ts';
import { defaultKubernetes, kubernetesVersion } from '../test/cluster/versions.ts';
import { main, say } from './exec.ts';
import { type KernelSeries, kernelSeries } from './kernels.ts';
import { positiveOption, seriesOption } from './options.ts';

interface UpOptions {
  readonly nodes?: number;
  readonly kubernetes?: string;
  readonly kernel?: KernelSeries;
  readonly memory?: number;
  readonly ipFamilies?: IpFamilies;
  readonly withImage?: true;
}

const layout = ownLayout();

function nodesOption(text: string): number {
  if (!/^\d+$/.test(text) || Number(text) > maxNodes) {
    throw new InvalidArgumentError(`A whole number from 0 to ${maxNodes} is wanted.`);
  }
  return Number(text);
}

function kubernetesOption(text: string): string {
  try {
    return kubernetesVersion(text);
  } catch (error) {
    throw new InvalidArgumentError(error instanceof Error ? error.message : String(error));
  }
}

function ipFamiliesOption(text: string): IpFamilies {
  try {
    return parseIpFamilies(text);
  } catch (error) {
    throw new InvalidArgumentError(error instanceof Error ? error.message : String(error));
  }
}

async function startCluster(options: UpOptions): Promise<void> {
  const started = Date.now();
  const { memory: memoryMb, withImage, ...others } = options;
  const images = withImage ? { images: [(await ownImage()).archive] } : {};
  const settings = await up(layout, {
    ...others,
    ...images,
    ...(memoryMb === undefined ? {} : { memoryMb }),
  });
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  say(`Kubernetes ${settings.kubernetes} with ${settings.nodes} nodes: up after ${seconds} s`);
  say(`kubeconfig: ${statePaths(layout.stateDir).kubeconfig}`);
}

const program = new Command('npm run cluster --')
  .description(
    'A Kubernetes cluster for this checkout: control plane in a network namespace, nodes in machines.',
  )
  .enablePositionalOptions()
  .addHelpText('after', `\nIPVS_BPF_CLUSTER=NAME is a cluster of its own, beside that of the checkout.`);

program
  .command('up')
  .description('build what is missing, start what does not run')
  .option('--nodes <n>', `machines, named n1, n2, …; 2 when left out`, nodesOption)
  .option('--kubernetes <version>', `${defaultKubernetes} when left out`, kubernetesOption)
  .option('--kernel <series>', `Debian kernel of the nodes: ${kernelSeries.join(', ')}`, seriesOption)
  .option('--memory <mb>', 'of each node; 3072 when left out', positiveOption)
  .option(
    '--ip-families <families>',
    `of Services and pods: ${ipFamilies.join(', ')}; ipv4 when left out`,
    ipFamiliesOption,
  )
  .option('--with-image', 'build the image of this checkout first: `deploy` then finds it on the nodes')
  .action((options: UpOptions) => main(() => startCluster(options)));

program
  .command('down')
  .description('end everything and remove it')
  .action(() => main(() => down(layout)));

program
  .command('deploy')
  .description('build the image of this checkout, load it into the nodes, install the chart')
  .action(() => main(() => deploy(layout)));

program
  .command('undeploy')
  .description("remove the chart's release")
  .action(() => main(() => undeploy(layout)));

program
  .command('status')
  .description('tell what runs; the exit status is 1 unless everything does')
  .action(() =>
    main(async () => {
      const { lines, healthy } = await clusterStatus(layout);
      process.stdout.write(lines.map((line) => `${line}\n`).join(''));
      process.exitCode = healthy ? 0 : 1;
    }),
  );

/** A command whose words are all another program's, options too. */
function passing(
  name: string,
  description: string,
  work: (words: readonly string[]) => Promise<number>,
): void {
  program
    .command(name)
    .description(description)
    .argument('[word...]')
    .helpOption(false)
    .allowUnknownOption()
    .passThroughOptions()
    .action((words: readonly string[]) =>
      main(async () => {
        process.exitCode = await work(words);
      }),
    );
}

passing('kubectl', 'run kubectl as administrator', (words) => kubectl(layout, words));
passing('exec', 'run a command on a node, as root: exec NODE COMMAND…', ([node = '', ...words]) =>
  runOnNode(layout, node, words),
);
passing('client', `run a command on a host outside of the cluster, ${addresses.client}`, (words) =>
  runInClient(layout, words),
);

await program.parseAsync();
