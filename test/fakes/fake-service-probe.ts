// SPDX-License-Identifier: Apache-2.0
import { servingReals } from '../../src/core/service-probe.ts';
import { virtualServerKey } from '../../src/core/virtual-servers.ts';
import type { RealServer, ServiceProbe, ServiceVerdict, VirtualServer } from '../../src/ports.ts';
import type { Calls } from './calls.ts';
import type { FakeMachine } from './fake-machine.ts';

/** Every real server answers, and every path works, but for those that a test names. */
export class FakeServiceProbe implements ServiceProbe {
  /** Virtual servers, by virtualServerKey(), that do not work accelerated. */
  readonly broken = new Set<string>();
  /** Real servers, as "ADDRESS:PORT", that do not listen. */
  readonly silent = new Set<string>();
  /** Called while the connections are being made. */
  meanwhile = (): void => {};
  readonly #calls: Calls;
  readonly #machine: FakeMachine;

  constructor(calls: Calls, machine: FakeMachine) {
    this.#calls = calls;
    this.#machine = machine;
  }

  async run(servers: readonly VirtualServer[]): Promise<readonly ServiceVerdict[]> {
    const { datapath, host } = this.#machine;
    const on = host.sysctls.get('net/ipv4/vs/bpf_mode') === '1';
    const accelerated = new Set(on ? (await datapath.services()).map(virtualServerKey) : []);
    return this.#calls.change('serviceProbe.run', servers.map(virtualServerKey).join(', '), () => {
      this.meanwhile();
      return servers.map((server) => this.#verdict(server, accelerated.has(virtualServerKey(server))));
    });
  }

  #verdict(server: VirtualServer, accelerated: boolean): ServiceVerdict {
    const reals = servingReals(server);
    const silent = reals.filter((real) => this.silent.has(endOf(real)));
    const broken = accelerated && this.broken.has(virtualServerKey(server));
    if (!broken && reals.length > 0 && silent.length === 0) return { verdict: 'Passed' };
    if (silent.length > 0 || reals.length === 0) {
      return {
        verdict: 'Unsure',
        message: `no connection, and ${silent.map(endOf).join(' ')} do not answer`,
      };
    }
    return { verdict: 'Failed', message: 'no connection; all of its real servers answer directly' };
  }
}

function endOf({ address, port }: RealServer): string {
  return `${address}:${port}`;
}
