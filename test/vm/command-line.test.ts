// SPDX-License-Identifier: Apache-2.0
/** `npm run vm` as its users see it: what it passes through, and what makes it fail. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { repository } from '../../scripts/cache.ts';
import { vmStatus } from './machine.ts';

interface Run {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** When each line of standard output came, in milliseconds of this machine's clock. */
  readonly lineTimes: readonly number[];
}

function vm(...words: string[]): Promise<Run> {
  const child = spawn(process.execPath, [join(repository, 'scripts/vm.ts'), ...words], {
    cwd: repository,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  const lineTimes: number[] = [];
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
    lineTimes.push(Date.now());
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  return new Promise((done, fail) => {
    child.on('error', fail);
    child.on('close', (status) => done({ status, stdout, stderr, lineTimes }));
  });
}

test('passes arguments, both streams and the exit status through', async () => {
  const run = await vm(
    'sh',
    '-c',
    'printf "%s|" "$@"; pwd; echo problem >&2; exit 7',
    'sh',
    'a b',
    "c'd",
    '',
  );
  expect(run).toMatchObject({ status: 7, stdout: `a b|c'd||${repository}\n` });
  expect(run.stderr).toContain('problem\n');
});

test('passes output on as it comes', async () => {
  const run = await vm('sh', '-c', 'echo first; sleep 4; echo last');
  expect(run.stdout).toBe('first\nlast\n');
  expect((run.lineTimes.at(-1) ?? 0) - (run.lineTimes[0] ?? 0)).toBeGreaterThan(1000);
});

test('boots the kernel, the processors and the memory that it is told to', async () => {
  const run = await vm(
    ...['--kernel', '6.12', '--smp', '3', '--memory', '700'],
    ...['sh', '-c', "uname -r; nproc; awk '/MemTotal/ { print ($2 < 700 * 1024) }' /proc/meminfo"],
  );
  expect(run.stdout).toMatch(/^6\.12\.\S+\n3\n1\n$/);
});

test('counts instructions as nanoseconds, so that a pause takes no time', async () => {
  const begin = Date.now();
  const run = await vm('--icount', 'sh', '-c', 'sleep 600; nproc');
  expect(run).toMatchObject({ status: 0, stdout: '1\n' });
  expect(Date.now() - begin).toBeLessThan(170_000);
});

test('ends a script that takes too long', async () => {
  const run = await vm('--timeout', '25', 'sleep', '1000');
  expect(run.status).toBe(vmStatus.timedOut);
  expect(run.stderr).toContain('timed out after 25 s');
});

test('fails on a warning in the kernel log, and prints it, although the script succeeds', async () => {
  const line = 'WARNING: CPU: 0 PID: 1 at net/nowhere.c:1 nothing+0x0/0x10';
  const run = await vm('sh', '-c', `echo '${line}' >/dev/kmsg; echo done`);
  expect(run).toMatchObject({ status: vmStatus.kernelProblem, stdout: 'done\n' });
  expect(run.stderr).toContain('kernel log of 6.1:');
  expect(run.stderr).toMatch(/kernel problem: .*net\/nowhere\.c:1/);
});

test('fails on a panic, and prints the log', async () => {
  const run = await vm('sh', '-c', 'echo c >/proc/sysrq-trigger');
  expect(run.status).toBe(vmStatus.kernelProblem);
  expect(run.stderr).toContain('Kernel panic');
});
