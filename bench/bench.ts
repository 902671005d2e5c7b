// SPDX-License-Identifier: Apache-2.0
/** npm run bench [-- [--json] [--kernel 6.1] [--ip-family IPv6] [PATH…]]: see `usage` and docs/benchmark.md. */
import { Command, Option } from 'commander';
import { main, say } from '../scripts/exec.ts';
import { type KernelSeries, kernelFor, kernelSeries } from '../scripts/kernels.ts';
import { countUpTo, seriesOption } from '../scripts/options.ts';
import type { AddressFamily } from '../src/ports.ts';
import { prepare, runGuest } from './guest.ts';
import {
  type Beside,
  IPV4_PATHS,
  type Measurement,
  PATHS,
  parseMeasurement,
  reduction,
  summarize,
  table,
} from './results.ts';

const REPEATS = 3;

interface Options extends Beside {
  readonly kernel: KernelSeries;
  readonly ipFamily: AddressFamily;
  readonly json?: true;
}

async function bench(paths: readonly string[], options: Options): Promise<void> {
  const { kernel, ipFamily, services, sessions, json } = options;
  // Nothing but the result may be on standard output: the builds talk on standard error.
  await prepare(kernel);
  const measurements: Measurement[] = [];
  await runGuest({
    kernel,
    script: 'guest.sh',
    args: [String(REPEATS), String(services), String(sessions), ipFamily.slice(-1), ...paths],
    timeoutSeconds: 1800 + services + sessions / 100,
    onLine: (line) => {
      const measurement = parseMeasurement(line);
      measurements.push(measurement);
      const { path, kind, repeat, value } = measurement;
      if (kind === 'short') say(`${path}: ${value} instructions a request (${repeat} of ${REPEATS})`);
    },
  });
  const { release } = await kernelFor(kernel);
  const result = summarize(
    { kernel: release, family: ipFamily, beside: { services, sessions } },
    measurements,
  );
  process.stdout.write(json === true ? `${JSON.stringify(result)}\n` : `${table(result)}\n`);
  const below = reduction(result);
  if (below !== undefined && json !== true) {
    process.stdout.write(`LB share of ipvs-bpf: ${below.toFixed(1)} % below native IPVS's\n`);
  }
}

const program = new Command('npm run bench --')
  .description(
    `Count instructions on the ways from a client to a real server: ${PATHS.join(', ')}.
1,000 short requests (connect, 18 bytes, 256 back, the server closes first) after 200 for warm-up, and
50 MB in one connection, each ${REPEATS} times.`,
  )
  .option('--json', 'one JSON object on standard output')
  .option('--kernel <series>', `Debian kernel to boot: ${kernelSeries.join(', ')}`, seriesOption, '6.1')
  .addOption(
    new Option('--ip-family <family>', `of client and Service; not of ${IPV4_PATHS.join(' and ')}`)
      .choices(['IPv4', 'IPv6'])
      .default('IPv4'),
  )
  .option(
    '--services <count>',
    'further Services beside the one that is asked, up to 100000',
    countUpTo(100_000),
    0,
  )
  .option('--sessions <count>', 'open sessions beside, up to 1000000', countUpTo(1_000_000), 0)
  .argument('[path...]', 'only these paths; direct is always measured')
  .action(async (paths: string[], options: Options) => {
    const unknown = paths.filter((path) => !(PATHS as readonly string[]).includes(path));
    if (unknown.length > 0) program.error(`no such path: ${unknown.join(', ')}`);
    const only4 = options.ipFamily === 'IPv4' ? [] : IPV4_PATHS;
    const unwritten = only4.filter((path) => paths.includes(path));
    if (unwritten.length > 0) program.error(`not of IPv6: ${unwritten.join(', ')}`);
    const chosen = PATHS.filter(
      (path) => paths.length === 0 || path === 'direct' || paths.includes(path),
    ).filter((path) => !only4.includes(path));
    await main(() => bench(chosen, options));
  });
await program.parseAsync();
