// SPDX-License-Identifier: Apache-2.0
/** npm run bench:throughput: a director that has one processor and nothing else to do; docs/benchmark.md. */
import { Command, InvalidArgumentError } from 'commander';
import { main, say } from '../scripts/exec.ts';
import { type KernelSeries, kernelFor, kernelSeries } from '../scripts/kernels.ts';
import { positiveOption, seriesOption } from '../scripts/options.ts';
import { interrupted } from '../test/vm/interrupted.ts';
import { prepare } from './guest.ts';
import { installTools } from './throughput-net.ts';
import {
  idleCases,
  type Measurement,
  nameOf,
  percent,
  REQUESTS_AN_ERROR,
  summarize,
  table,
} from './throughput-results.ts';
import { measureRounds } from './throughput-run.ts';

/** Connections are remembered for two minutes: the tables have room for those of so many seconds, twice. */
const MOST_SECONDS = 10;

interface Options {
  readonly kernel: KernelSeries;
  readonly rounds: number;
  readonly seconds: number;
  readonly json?: true;
}

async function bench({ kernel, rounds, seconds, json }: Options): Promise<void> {
  const tools = await installTools();
  await prepare(kernel);
  const measurements: Measurement[] = [];
  await measureRounds({ kernel, rounds, seconds, tools, signal: interrupted() }, (round) => {
    measurements.push(...round);
    for (const { case: each, requests, mbitPerSecond, busy } of round) {
      const ran = `the director ran ${percent(busy.requests)} and ${percent(busy.transfer)} of the time`;
      const figures = `${requests.perSecond.toFixed(0)} requests/s, ${mbitPerSecond.toFixed(0)} Mbit/s`;
      say(`${nameOf(each)}: ${figures}; ${ran}`);
    }
  });
  const result = summarize((await kernelFor(kernel)).release, seconds, measurements);
  const idle = idleCases(result);
  if (idle.length > 0) {
    say(`the director did not run all the time; has this machine other work? ${idle.join(', ')}`);
  }
  process.stdout.write(json === true ? `${JSON.stringify(result)}\n` : `${table(result)}\n`);
}

function secondsOption(text: string): number {
  const value = positiveOption(text);
  if (value > MOST_SECONDS) throw new InvalidArgumentError(`At most ${MOST_SECONDS}.`);
  return value;
}

const program = new Command('npm run bench:throughput --')
  .description(
    `Measure requests/s, their latency, and the throughput of one connection, through
a director of one emulated processor. Client (wrk, 16 connections, each request
in one of its own; iperf3) and real server (nginx, iperf3) are network
namespaces of this machine. Each round measures plain routing, native IPVS as
kube-proxy sets it up, and ipvs-bpf; these with a ClusterIP and a NodePort. It
fails if more than one request in ${REQUESTS_AN_ERROR} meets an error of a socket.`,
  )
  .option('--rounds <n>', 'how often everything is measured', positiveOption, 5)
  .option('--seconds <s>', `for each measurement, up to ${MOST_SECONDS}`, secondsOption, 5)
  .option('--kernel <series>', `Debian kernel to boot: ${kernelSeries.join(', ')}`, seriesOption, '6.1')
  .option('--json', 'one JSON object on standard output')
  .action(async (options: Options) => main(() => bench(options)));
await program.parseAsync();
