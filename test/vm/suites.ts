// SPDX-License-Identifier: Apache-2.0
/**
 * Test suites that need a kernel: every executable test/kernel/NAME.test.sh is booted once for each kernel
 * and prints TAP. A comment among its first lines may set how:
 *
 *   # vm: kernels=6.1,6.12 smp=1 memory=1024 timeout=600 icount=yes part=life
 *
 * One with part=life takes so long that it is run with the part `life` of `npm test`, or by its name.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { repository } from '../../scripts/cache.ts';
import { type KernelSeries, kernelSeries, parseSeries } from '../../scripts/kernels.ts';
import { type Lines, lineSplitter } from './lines.ts';
import { runInVm, vmStatus } from './machine.ts';
import { TapReader, type TapResult } from './tap.ts';

export interface Suite {
  readonly name: string;
  readonly script: string;
  readonly kernel: KernelSeries;
  readonly smp: number;
  readonly memoryMb: number;
  readonly timeoutSeconds: number;
  readonly icount: boolean;
  /** Of `npm test`. */
  readonly part: SuitePart;
}

const suiteParts = ['vm', 'life'] as const;
export type SuitePart = (typeof suiteParts)[number];

/** All suites, one entry for each kernel that it runs on. */
export async function findSuites(directory = join(repository, 'test/kernel')): Promise<Suite[]> {
  const scripts = (await readdir(directory)).filter((name) => name.endsWith('.test.sh')).sort();
  const found = scripts.map(async (name) => {
    const script = join(directory, name);
    return describeSuite(name.replace(/\.test\.sh$/, ''), script, await readFile(script, 'utf8'));
  });
  return (await Promise.all(found)).flat();
}

/** The entries for one script, from its `# vm:` line. */
export function describeSuite(name: string, script: string, text: string): Suite[] {
  const line = /^# vm:(.*)$/m.exec(text)?.[1] ?? '';
  const settings = new Map<string, string>();
  for (const word of line.split(/\s+/).filter(Boolean)) {
    const [key = '', value = ''] = word.split('=');
    if (!['kernels', 'smp', 'memory', 'timeout', 'icount', 'part'].includes(key) || value === '') {
      throw new Error(`${script}: unknown setting ${word} in its "# vm:" line`);
    }
    settings.set(key, value);
  }
  const part = suiteParts.find((each) => each === (settings.get('part') ?? 'vm'));
  if (part === undefined)
    throw new Error(`${script}: unknown part ${settings.get('part')}: use ${suiteParts.join(' or ')}`);
  const kernels = settings.get('kernels')?.split(',').map(parseSeries) ?? kernelSeries;
  return kernels.map((kernel) => ({
    name,
    script,
    kernel,
    smp: Number(settings.get('smp') ?? 2),
    memoryMb: Number(settings.get('memory') ?? 2048),
    timeoutSeconds: Number(settings.get('timeout') ?? 300),
    icount: settings.get('icount') === 'yes',
    part,
  }));
}

/**
 * Boots a machine for a suite and counts its cases; a wrong exit status or kernel log is a failure of
 * its own.
 * @param print gets what the suite prints, line by line, as it comes
 */
export async function runSuite(
  suite: Suite,
  print: (line: string) => void,
  signal: AbortSignal,
): Promise<TapResult> {
  const tap = new TapReader();
  const stdout: Lines = lineSplitter((line) => {
    tap.line(line);
    print(line);
  });
  const stderr: Lines = lineSplitter(print);
  const result = await runInVm({
    ...suite,
    cwd: repository,
    signal,
    onStdout: stdout.push,
    onStderr: stderr.push,
  });
  stdout.end();
  stderr.end();
  const { passed, failures } = tap.result();
  if (result.problems.length > 0 || result.bootMs === undefined) print(result.kernelLog);
  const wrongStatus = result.status !== 0 && failures.length === 0 && result.problems.length === 0;
  return {
    passed,
    failures: [
      ...failures,
      ...result.problems.map((problem) => `kernel log: ${problem}`),
      ...(result.status === vmStatus.timedOut ? [`no end within ${suite.timeoutSeconds} s`] : []),
      ...(wrongStatus ? [`exit status ${result.status}`] : []),
    ],
  };
}
