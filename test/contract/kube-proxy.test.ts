// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ProcKubeProxy } from '../../src/adapters/kube-proxy.ts';
import type { KubeProxy } from '../../src/ports.ts';
import { fakeMachine } from '../fakes/fake-machine.ts';
import { ON_REAL_KERNEL, type Subject } from './subject.ts';

interface Outside {
  /** Starts a process that has the name; answers its id. */
  start(): Promise<number>;
  end(pid: number): Promise<void>;
  /** Lets it tell its mode and version, or nothing. */
  tell(about: { readonly mode: string; readonly version: string } | undefined): void;
}

/** What kube-proxy serves beside its work: the part of it that is asked for. */
async function metricsServer() {
  let about: Parameters<Outside['tell']>[0];
  const server = createServer(({ url }, answer) => {
    answer.statusCode = about === undefined ? 404 : 200;
    if (url === '/proxyMode') answer.end(about?.mode);
    else answer.end(`# TYPE kubernetes_build_info gauge\n${buildInfo(about?.version)}go_threads 9\n`);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    tell: (next: typeof about) => {
      about = next;
    },
    close: () => new Promise((resolve) => server.close(resolve)),
  };
}

function buildInfo(version = ''): string {
  return `kubernetes_build_info{build_date="2025-12-09T14:59:13Z",git_version="${version}",go_version="go1.24.11",minor="34"} 1\n`;
}

async function realSubject(): Promise<Subject<KubeProxy, Outside>> {
  const directory = await mkdtemp(join(tmpdir(), 'kube-proxy-'));
  const program = join(directory, 'kube-proxy');
  await copyFile('/bin/sleep', program);
  const metrics = await metricsServer();
  const children = new Map<number, ReturnType<typeof spawn>>();
  const end = async (pid: number): Promise<void> => {
    const child = children.get(pid);
    if (child === undefined) return;
    children.delete(pid);
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  };
  const outside: Outside = {
    start: async () => {
      const child = spawn(program, ['300'], { stdio: 'ignore' });
      await new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject));
      const pid = child.pid ?? 0;
      children.set(pid, child);
      return pid;
    },
    end,
    tell: metrics.tell,
  };
  const cleanup = async (): Promise<void> => {
    for (const pid of children.keys()) await end(pid);
    await metrics.close();
    await rm(directory, { recursive: true });
  };
  return { port: new ProcKubeProxy(metrics.port), outside, cleanup };
}

async function fakeSubject(): Promise<Subject<KubeProxy, Outside>> {
  const { kubeProxy } = fakeMachine();
  kubeProxy.proxyMode = undefined;
  kubeProxy.proxyVersion = undefined;
  let last = 4710;
  const outside: Outside = {
    start: async () => {
      last += 1;
      kubeProxy.start(last);
      return last;
    },
    end: async (pid) => kubeProxy.end(pid),
    tell: (about) => {
      kubeProxy.proxyMode = about?.mode;
      kubeProxy.proxyVersion = about?.version;
    },
  };
  return { port: kubeProxy, outside, cleanup: async () => undefined };
}

const subject = ON_REAL_KERNEL ? { name: 'kernel', make: realSubject } : { name: 'fake', make: fakeSubject };

describe.each([subject])('KubeProxy ($name)', ({ make }) => {
  let kubeProxy: KubeProxy;
  let outside: Outside;
  let cleanup: () => Promise<void>;
  beforeEach(async () => {
    ({ port: kubeProxy, outside, cleanup } = await make());
  });
  afterEach(() => cleanup());

  it('finds the processes, and says nothing of a mode that nobody answers for', async () => {
    expect(await kubeProxy.processes()).toEqual([]);
    const pid = await outside.start();
    expect((await kubeProxy.processes()).map((found) => found.pid)).toEqual([pid]);
    expect(await kubeProxy.frozen()).toEqual([]);
    expect(await kubeProxy.mode()).toBeUndefined();
    expect(await kubeProxy.version()).toBeUndefined();
  });

  it('tells the mode and the version that kube-proxy says', async () => {
    outside.tell({ mode: 'ipvs', version: 'v1.34.4' });
    expect(await kubeProxy.mode()).toBe('ipvs');
    expect(await kubeProxy.version()).toBe('v1.34.4');
    outside.tell(undefined);
    expect(await kubeProxy.mode()).toBeUndefined();
    expect(await kubeProxy.version()).toBeUndefined();
  });

  it('stops a process and lets it go on, as often as it is told', async () => {
    await outside.start();
    const [found] = await kubeProxy.processes();
    if (found === undefined) throw new Error('no process');
    await kubeProxy.freeze(found, 30);
    await kubeProxy.freeze(found, 30);
    expect(await kubeProxy.frozen()).toEqual([found]);
    await kubeProxy.thaw(found);
    await kubeProxy.thaw(found);
    expect(await kubeProxy.frozen()).toEqual([]);
  });

  if (ON_REAL_KERNEL) {
    it('lets a process go on after the time, without being told', async () => {
      await outside.start();
      const [found] = await kubeProxy.processes();
      if (found === undefined) throw new Error('no process');
      await kubeProxy.freeze(found, 7);
      expect(await kubeProxy.frozen()).toEqual([found]);
      await expect.poll(() => kubeProxy.frozen(), { timeout: 60_000, interval: 500 }).toEqual([]);
    });
  }

  it('leaves a process alone that has ended, and a later one with its id', async () => {
    const pid = await outside.start();
    const [found] = await kubeProxy.processes();
    if (found === undefined) throw new Error('no process');
    await kubeProxy.freeze({ pid, startTime: '1' }, 30);
    expect(await kubeProxy.frozen()).toEqual([]);
    await outside.end(pid);
    await kubeProxy.freeze(found, 30);
    await kubeProxy.thaw(found);
    expect(await kubeProxy.processes()).toEqual([]);
  });
});
