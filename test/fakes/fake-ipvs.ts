// SPDX-License-Identifier: Apache-2.0
import { HostError } from '../../src/core/errors.ts';
import type { Ipvs, IpvsDaemon, IpvsTimeouts, RealServer, VirtualServer } from '../../src/ports.ts';
import type { Calls } from './calls.ts';
import type { FakeKernelModules } from './fake-kernel-modules.ts';

const HASHED = 2;
const KERNEL_TIMEOUTS: IpvsTimeouts = { tcpSeconds: 900, tcpFinSeconds: 120, udpSeconds: 300 };

function serverKey(server: VirtualServer): string {
  return server.fwmark === undefined
    ? `${server.protocol} ${server.address} ${server.port}`
    : `FWM ${server.fwmark} ${server.family}`;
}

function realServerKey(server: RealServer): string {
  return `${server.address} ${server.port}`;
}

/** An IPVS table that lives as long as the module ip_vs is loaded. */
export class FakeIpvs implements Ipvs {
  readonly #table = new Map<string, VirtualServer>();
  /** The table in order, as long as it does not change. */
  #sorted: readonly VirtualServer[] | undefined;
  #timeouts = KERNEL_TIMEOUTS;
  #familyId = 0;
  /** As /proc/net/ip_vs_conn lists them. */
  connectionLines: readonly string[] = [];
  /** Called after the table was changed. */
  readonly onChange: (() => void)[] = [];
  runningDaemons: IpvsDaemon[] = [];
  readonly #calls: Calls;
  readonly #modules: FakeKernelModules;

  constructor(calls: Calls, modules: FakeKernelModules) {
    this.#calls = calls;
    this.#modules = modules;
    modules.users.set('ip_vs', () => this.#table.size + this.runningDaemons.length);
    for (const name of modules.tree.keys()) {
      if (!name.startsWith('ip_vs_')) continue;
      modules.users.set(name, () => this.table.filter((s) => `ip_vs_${s.scheduler}` === name).length);
    }
    modules.onChange.push((file, loaded) => {
      if (file.name !== 'ip_vs') return;
      if (loaded) this.#familyId = modules.takeFamilyId();
      else this.#clear();
    });
  }

  get connections(): number {
    return this.connectionLines.length;
  }

  /** So many clients that have a connection. */
  set connections(count: number) {
    this.connectionLines = Array.from({ length: count }, (_, i) => {
      const port = (10_000 + i).toString(16).toUpperCase().padStart(4, '0');
      return `TCP C0000264 ${port} C0000201 0050 C6336402 1F90 ESTABLISHED     899`;
    });
  }

  /** The table as `ipvsadm -S -n` would list it, sorted. */
  get table(): readonly VirtualServer[] {
    this.#sorted ??= [...this.#table.keys()].sort().map((key) => this.#table.get(key) as VirtualServer);
    return this.#sorted;
  }

  /** `ipvsadm -A` and `-a` by a user: loads ip_vs and the scheduler as the kernel would. */
  seed(...servers: readonly VirtualServer[]): void {
    this.#modules.probe('ip_vs');
    for (const server of servers) this.#put(server);
  }

  /** `ipvsadm -D` by a user. */
  unseed(server: VirtualServer): void {
    this.#delete(server);
  }

  async available(): Promise<boolean> {
    return this.#calls.read('ipvs.available', () => this.isThere);
  }

  async familyId(): Promise<number | undefined> {
    return this.#calls.read('ipvs.familyId', () => (this.isThere ? this.#familyId : undefined));
  }

  async connectionCount(): Promise<number> {
    return this.#calls.read('ipvs.connectionCount', () => (this.isThere ? this.connections : 0));
  }

  async virtualServers(): Promise<readonly VirtualServer[]> {
    return this.#calls.read('ipvs.virtualServers', () => this.#needed(() => this.table));
  }

  async timeouts(): Promise<IpvsTimeouts> {
    return this.#calls.read('ipvs.timeouts', () => this.#needed(() => this.#timeouts));
  }

  async daemons(): Promise<readonly IpvsDaemon[]> {
    return this.#calls.read('ipvs.daemons', () => this.#needed(() => [...this.runningDaemons]));
  }

  async flush(): Promise<void> {
    this.#calls.change('ipvs.flush', '', () => this.#needed(() => this.#clearTable()));
  }

  async restore(virtualServers: readonly VirtualServer[]): Promise<void> {
    this.#calls.change('ipvs.restore', `${virtualServers.length}`, () =>
      this.#needed(() => {
        for (const server of virtualServers) this.#put(server);
        for (const tell of this.onChange) tell();
      }),
    );
  }

  async remove(server: VirtualServer): Promise<boolean> {
    return this.#calls.change('ipvs.remove', serverKey(server), () =>
      this.#needed(() => this.#delete(server)),
    );
  }

  async setTimeouts(timeouts: IpvsTimeouts): Promise<void> {
    this.#calls.change('ipvs.setTimeouts', '', () =>
      this.#needed(() => {
        this.#timeouts = {
          tcpSeconds: timeouts.tcpSeconds || this.#timeouts.tcpSeconds,
          tcpFinSeconds: timeouts.tcpFinSeconds || this.#timeouts.tcpFinSeconds,
          udpSeconds: timeouts.udpSeconds || this.#timeouts.udpSeconds,
        };
      }),
    );
  }

  /** True while the module is. */
  get isThere(): boolean {
    return this.#modules.loaded.includes('ip_vs') || this.#modules.builtIn.has('ip_vs');
  }

  #needed<T>(act: () => T): T {
    if (!this.isThere) {
      throw new HostError('IPVS: no generic netlink family of this name', {
        code: 'NotFound',
        errno: 'ENOENT',
      });
    }
    return act();
  }

  #put(server: VirtualServer): void {
    this.#modules.probe(`ip_vs_${server.scheduler}`);
    const key = serverKey(server);
    this.#sorted = undefined;
    const merged = new Map<string, RealServer>();
    for (const real of this.#table.get(key)?.realServers ?? []) merged.set(realServerKey(real), real);
    for (const real of server.realServers) merged.set(realServerKey(real), real);
    this.#table.set(key, {
      ...server,
      flags: server.flags | HASHED,
      realServers: [...merged.keys()].sort().map((name) => merged.get(name) as RealServer),
    });
  }

  #delete(server: VirtualServer): boolean {
    this.#sorted = undefined;
    return this.#table.delete(serverKey(server));
  }

  #clearTable(): void {
    this.#sorted = undefined;
    this.#table.clear();
    for (const tell of this.onChange) tell();
  }

  #clear(): void {
    this.#clearTable();
    this.connections = 0;
    this.runningDaemons = [];
    this.#timeouts = KERNEL_TIMEOUTS;
  }
}
