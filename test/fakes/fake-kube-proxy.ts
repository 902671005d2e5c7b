// SPDX-License-Identifier: Apache-2.0
import { HostError } from '../../src/core/errors.ts';
import type { KubeProxy, ProcessIdentity } from '../../src/ports.ts';
import type { Calls } from './calls.ts';

/** kube-proxy processes, running or stopped. */
export class FakeKubeProxy implements KubeProxy {
  proxyMode: string | undefined = 'ipvs';
  proxyVersion: string | undefined = 'v1.34.4';
  /** Lets freeze fail. */
  stubborn = false;
  readonly #running = new Map<number, ProcessIdentity>();
  readonly #stopped = new Set<number>();
  readonly #calls: Calls;

  constructor(calls: Calls) {
    this.#calls = calls;
  }

  /** A kube-proxy begins, as the kubelet starts it. */
  start(pid: number): void {
    this.#running.set(pid, { pid, startTime: String(pid * 100) });
  }

  /** The kubelet starts those that ran, as other processes. */
  reboot(): void {
    const pids = [...this.#running.keys()];
    for (const pid of pids) this.end(pid);
    for (const pid of pids) this.start(pid + 1000);
  }

  end(pid: number): void {
    this.#running.delete(pid);
    this.#stopped.delete(pid);
  }

  async processes(): Promise<readonly ProcessIdentity[]> {
    return this.#calls.read('kubeProxy.processes', () => [...this.#running.values()]);
  }

  async frozen(): Promise<readonly ProcessIdentity[]> {
    return this.#calls.read('kubeProxy.frozen', () =>
      [...this.#running.values()].filter(({ pid }) => this.#stopped.has(pid)),
    );
  }

  async freeze(process: ProcessIdentity): Promise<void> {
    this.#calls.change('kubeProxy.freeze', String(process.pid), () => {
      if (!this.#isSame(process)) return;
      if (this.stubborn) {
        throw new HostError(`process ${process.pid} does not stop`, { code: 'CommandTimedOut', retry: true });
      }
      this.#stopped.add(process.pid);
    });
  }

  async thaw(process: ProcessIdentity): Promise<void> {
    this.#calls.change('kubeProxy.thaw', String(process.pid), () => {
      if (this.#isSame(process)) this.#stopped.delete(process.pid);
    });
  }

  async mode(): Promise<string | undefined> {
    return this.#calls.read('kubeProxy.mode', () => this.proxyMode);
  }

  async version(): Promise<string | undefined> {
    return this.#calls.read('kubeProxy.version', () => this.proxyVersion);
  }

  #isSame({ pid, startTime }: ProcessIdentity): boolean {
    return this.#running.get(pid)?.startTime === startTime;
  }
}
