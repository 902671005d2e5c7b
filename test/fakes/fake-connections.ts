// SPDX-License-Identifier: Apache-2.0
import type { Connections, TrackedConnection } from '../../src/connection-ports.ts';
import { HostError } from '../../src/core/errors.ts';
import { connectionKey, syncMessages } from '../../src/core/ipvs-sync.ts';
import type { Calls } from './calls.ts';
import type { FakeIpvs } from './fake-ipvs.ts';

/** Connections that end with the module. */
export class FakeConnections implements Connections {
  /** What connection tracking has been told of. */
  tracked: readonly TrackedConnection[] = [];
  readonly #calls: Calls;
  readonly #ipvs: FakeIpvs;

  constructor(calls: Calls, ipvs: FakeIpvs) {
    this.#calls = calls;
    this.#ipvs = ipvs;
  }

  async list(): Promise<readonly string[]> {
    return this.#calls.read('connections.list', () => (this.#ipvs.isThere ? this.#ipvs.connectionLines : []));
  }

  async restore(lines: readonly string[]): Promise<number> {
    return this.#calls.change('connections.restore', String(lines.length), () => {
      if (!this.#ipvs.isThere) throw new HostError('IPVS: no family of this name', { code: 'NotFound' });
      const known = lines.filter((line) => syncMessages([line], 1).length > 0);
      const all = new Map(
        [...known, ...this.#ipvs.connectionLines].map((line) => [connectionKey(line), line]),
      );
      this.#ipvs.connectionLines = [...all.values()];
      return known.length;
    });
  }

  async endRestore(): Promise<void> {
    this.#calls.change('connections.endRestore', '', () => undefined);
  }

  async track(connections: readonly TrackedConnection[]): Promise<number> {
    return this.#calls.change('connections.track', String(connections.length), () => {
      this.tracked = connections.filter(({ protocol }) => protocol !== 'SCTP');
      return connections.length - this.tracked.length;
    });
  }
}
