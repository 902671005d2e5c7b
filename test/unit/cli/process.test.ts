// SPDX-License-Identifier: Apache-2.0
/** The program as a process: exit statuses, and what it says when there is no cluster. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';

const CLI = join(import.meta.dirname, '../../../src/cli.ts');
const directory = mkdtempSync(join(tmpdir(), 'ipvs-bpf-cli-'));
afterAll(() => rmSync(directory, { recursive: true }));

interface Ended {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

function run(args: readonly string[], environment: Readonly<Record<string, string>> = {}): Promise<Ended> {
  const env = { PATH: process.env.PATH ?? '', HOME: directory, ...environment };
  return new Promise((resolve) => {
    execFile(process.execPath, [CLI, ...args], { env }, (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

function kubeconfig(server: string): string {
  const file = join(directory, 'kubeconfig');
  const document = {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'here',
    clusters: [{ name: 'c', cluster: { server } }],
    users: [{ name: 'u', user: { token: 'none' } }],
    contexts: [{ name: 'here', context: { cluster: 'c', user: 'u' } }],
  };
  writeFileSync(file, JSON.stringify(document));
  return file;
}

/** A port at which nobody listens. */
async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** A process starts in a second; on a machine that does much else it takes longer. */
const PATIENT = { timeout: 60_000 };

describe('wrong usage ends with 2:', PATIENT, () => {
  it.each([
    [['statu'], /unknown command/],
    [['status', '--output', 'yaml'], /text, json/],
    [['status', '--wait-duration', 'soon'], /such as 90s, 5m or 1h/],
    [['conn-test', '--service', 'web'], /NAMESPACE\/NAME/],
    [['node', 'top', '--lines', '0'], /1 or more/],
    [['completion', 'csh'], /bash, zsh, fish/],
    [['status'], /no kubeconfig was found/],
    [['status', '--kubeconfig', '/nonexistent'], /kubeconfig \/nonexistent: ENOENT/],
  ])('%j', async (args, text) => {
    const { status, stderr } = await run(args);
    expect(stderr).toMatch(text);
    expect(status).toBe(2);
  });

  it('a context that there is not, with those that there are', async () => {
    const file = kubeconfig('https://127.0.0.1:1');
    const { status, stderr } = await run(['status', '--kubeconfig', file, '--context', 'there']);
    expect(stderr).toContain('no context "there"; it has: here');
    expect(status).toBe(2);
  });
});

describe('an API server that does not answer ends with 3:', PATIENT, () => {
  it.each([['status'], ['preflight'], ['conn-test'], ['top'], ['sysdump']])('%s', async (command) => {
    const file = kubeconfig(`https://127.0.0.1:${await closedPort()}`);
    const { status, stdout, stderr } = await run([command], { KUBECONFIG: file });
    expect(stderr).toMatch(/Unreachable: connect ECONNREFUSED/);
    expect(stdout).toBe('');
    expect(status).toBe(3);
  });

  it('status --wait, after its time', async () => {
    const file = kubeconfig(`https://127.0.0.1:${await closedPort()}`);
    const begin = Date.now();
    const { status } = await run(['status', '--wait', '--wait-duration', '3s'], { KUBECONFIG: file });
    expect(status).toBe(3);
    expect(Date.now() - begin).toBeGreaterThan(2_000);
  });
});

describe('--help and --version', PATIENT, () => {
  it('end with 0', async () => {
    expect(await run(['--version'])).toMatchObject({ status: 0, stdout: expect.stringMatching(/^\d+\.\d+/) });
    expect(await run(['status', '--help'])).toMatchObject({ status: 0 });
  });
});
