// SPDX-License-Identifier: Apache-2.0
import { freeTestAddresses, outageProbeServer } from '../../src/core/self-check-network.ts';
import { virtualServerKey } from '../../src/core/virtual-servers.ts';
import type { Clock, OutageProbe, OutageResult, VirtualServer } from '../../src/ports.ts';
import type { Calls } from './calls.ts';
import type { FakeIpvs } from './fake-ipvs.ts';

const EVERY_MS = 10;

interface Running {
  readonly virtual: VirtualServer;
  goneAtMs?: number | undefined;
  longestGapMilliseconds: number;
  probesLost: number;
}

/** Its virtual server is in the table of the machine; packets are answered while it is there. */
export class FakeOutageProbe implements OutageProbe {
  /** Keeps the probe from beginning, as the network would. */
  problem: string | undefined;
  #running: Running | undefined;
  readonly #calls: Calls;
  readonly #ipvs: FakeIpvs;
  readonly #clock: Clock;

  constructor(calls: Calls, ipvs: FakeIpvs, clock: Clock) {
    this.#calls = calls;
    this.#ipvs = ipvs;
    this.#clock = clock;
    ipvs.onChange.push(() => this.#look());
  }

  async start(scheduler: string): Promise<void> {
    this.#calls.change('outageProbe.start', scheduler, () => {
      if (this.problem !== undefined || !this.#ipvs.isThere) return;
      const virtual = outageProbeServer(freeTestAddresses([]), scheduler);
      this.#ipvs.seed(virtual);
      this.#running = { virtual, longestGapMilliseconds: EVERY_MS, probesLost: 0 };
    });
  }

  async stop(): Promise<OutageResult> {
    return this.#calls.change('outageProbe.stop', '', () => {
      const running = this.#running;
      if (running === undefined)
        return { measured: false, why: this.problem ?? 'The exchange was interrupted.' };
      this.#end();
      if (running.goneAtMs !== undefined) return { measured: false, why: 'no answer' };
      const { longestGapMilliseconds, probesLost } = running;
      return { measured: true, outage: { longestGapMilliseconds, probesLost } };
    });
  }

  async abort(): Promise<void> {
    if (this.#running !== undefined) this.#calls.change('outageProbe.abort', '', () => this.#end());
  }

  #end(): void {
    if (this.#running !== undefined) this.#ipvs.unseed(this.#running.virtual);
    this.#running = undefined;
  }

  #look(): void {
    const running = this.#running;
    if (running === undefined) return;
    const key = virtualServerKey(running.virtual);
    const there = this.#ipvs.table.some((server) => virtualServerKey(server) === key);
    if (!there) {
      running.goneAtMs ??= this.#clock.now();
    } else if (running.goneAtMs !== undefined) {
      const gap = this.#clock.now() - running.goneAtMs + EVERY_MS;
      running.goneAtMs = undefined;
      running.longestGapMilliseconds = Math.max(running.longestGapMilliseconds, gap);
      running.probesLost += Math.ceil(gap / EVERY_MS);
    }
  }
}
