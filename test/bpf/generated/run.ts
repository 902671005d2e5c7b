// SPDX-License-Identifier: Apache-2.0
/**
 * Generated packets through the tc programs and through a reference model: test/bpf/generated/run.sh --help
 * Needs root, build/bpf/ipvs_tc.bpf.o, and namespaces of its own.
 */
import { execFileSync } from 'node:child_process';
import { Command } from 'commander';
import { positiveOption } from '../../../scripts/options.ts';
import { KnownStage } from './known.ts';
import { MadeUpStage } from './made-up.ts';
import { report, summary } from './report.ts';
import { type Difference, Runner } from './runner.ts';
import { DEVICES } from './scenes.ts';

interface Options {
  readonly seed: number;
  readonly packets: number;
  readonly seconds?: number;
  readonly packet?: number;
  readonly pins?: string;
}

/** The devices that packets are seen on; lo is the first. */
function makeDevices(): void {
  const [, near, far] = DEVICES;
  if (near === undefined || far === undefined) throw new Error('there should be three devices');
  const mac = (hex: string) => hex.replace(/..(?=.)/g, '$&:');
  const end = ({ ifindex, mac: hex }: { ifindex: number; mac: string }) => [
    'index',
    String(ifindex),
    'address',
    mac(hex),
  ];
  const peer = ['type', 'veth', 'peer', 'name', 'far', ...end(far)];
  execFileSync('ip', ['link', 'add', 'name', 'near', ...end(near), ...peer]);
}

function main({ seed, packets, seconds, packet, pins }: Options): number {
  makeDevices();
  using stage = pins === undefined ? new MadeUpStage(seed) : new KnownStage(seed, pins);
  const runner = new Runner(seed, stage);
  const started = performance.now();
  const isOver = () => seconds !== undefined && performance.now() - started > seconds * 1000;
  const first = packet === undefined ? 0 : Math.floor((packet - 1) / stage.packetsAScene);
  const scenes = packet === undefined ? Math.ceil(packets / stage.packetsAScene) : 1;
  let difference: Difference | undefined;
  let done = first;
  for (; done < first + scenes && !isOver() && difference === undefined; done += 1)
    difference = runner.runScene(done, packet);
  if (difference !== undefined) {
    process.stdout.write(report(stage, seed, difference));
    return 1;
  }
  const { text, missing } = summary(stage, runner.tally, seed, (performance.now() - started) / 1000);
  process.stdout.write(text);
  return packet === undefined && missing.length > 0 ? 1 : 0;
}

const program = new Command('test/bpf/generated/run.sh')
  .description('Run generated packets through the tc programs and compare with a reference model.')
  .option('--packets <n>', 'how many', positiveOption, 1_000_000)
  .option('--seconds <n>', 'end after so long, if that is earlier', positiveOption)
  .option('--seed <n>', 'the packets that come are fixed by it', positiveOption, 1)
  .option(
    '--packet <number>',
    'only the scene of this packet, up to it, with all maps compared at each step',
    positiveOption,
  )
  .option('--pins <directory>', 'by the sessions that the module has there')
  .action((options: Options) => {
    process.exitCode = main(options);
  });
program.parse();
