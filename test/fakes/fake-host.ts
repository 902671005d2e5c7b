// SPDX-License-Identifier: Apache-2.0
import { errnoError } from '../../src/core/errors.ts';
import type { Host } from '../../src/ports.ts';
import type { Calls } from './calls.ts';
import type { FakeKernelModules, ModuleFile } from './fake-kernel-modules.ts';

const VS = 'net/ipv4/vs/';

/** Sysctls that ip_vs brings along, with the kernel's defaults. */
const VS_DEFAULTS: Readonly<Record<string, string>> = {
  am_droprate: '10',
  amemthresh: '1024',
  backup_only: '0',
  cache_bypass: '0',
  conn_reuse_mode: '1',
  conntrack: '0',
  drop_entry: '0',
  drop_packet: '0',
  expire_nodest_conn: '0',
  expire_quiescent_template: '0',
  ignore_tunneled: '0',
  nat_icmp_send: '0',
  pmtu_disc: '1',
  run_estimation: '1',
  schedule_icmp: '0',
  secure_tcp: '0',
  sloppy_sctp: '0',
  sloppy_tcp: '0',
  snat_reroute: '1',
  sync_persist_mode: '0',
  sync_ports: '1',
  sync_qlen_max: '63488',
  sync_refresh_period: '0',
  sync_retries: '0',
  sync_sock_size: '0',
  sync_threshold: '3\t50',
  sync_version: '1',
};

export class FakeHost implements Host {
  /** Sysctls by path below /proc/sys ("net/ipv4/ip_forward"). */
  readonly sysctls = new Map<string, string>([
    ['net/ipv4/ip_forward', '1'],
    ['net/ipv6/conf/all/forwarding', '1'],
    ['net/ipv4/ip_local_port_range', '32768\t60999'],
    ['net/ipv4/conf/all/rp_filter', '0'],
    ['net/ipv4/conf/default/rp_filter', '0'],
  ]);
  /** What namespacesUsingIpvs answers. */
  otherNamespaces: string[] = [];
  /** What missingPrivileges answers. */
  missing: string[] = [];
  signaturesRequired = false;
  btf = true;
  /** What bpf_kfuncs of the next patched module says. */
  offersKfuncs = true;
  boot = '5d3ff5c8-0c1c-4ad4-8b32-6f2f4ed5f0aa';
  /** True after maps were handed to the loaded patched module. */
  get mapsGiven(): boolean {
    return (this.sysctls.get(`${VS}bpf_maps`) ?? 'none') !== 'none';
  }
  readonly #calls: Calls;

  constructor(calls: Calls, modules: FakeKernelModules) {
    this.#calls = calls;
    modules.onChange.push((file, loaded) => this.#moduleChanged(file, loaded));
  }

  async readSysctl(path: string): Promise<string | undefined> {
    return this.#calls.read('host.readSysctl', () => this.sysctls.get(path));
  }

  async writeSysctl(path: string, value: string): Promise<void> {
    this.#calls.change('host.writeSysctl', `${path}=${value}`, () => {
      this.control(path, value);
    });
  }

  /** `sysctl -w` by a user or another fake, not counted as a call of the program. */
  control(path: string, value: string): void {
    if (!this.sysctls.has(path)) throw errnoError(`write "${value}" to /proc/sys/${path}`, 'ENOENT');
    this.#checkControl(path, value);
    this.sysctls.set(path, value);
  }

  /** Map ids ("services=12 ...") that the patched module holds; "none", or undefined without it. */
  get mapsOfModule(): string | undefined {
    return this.sysctls.get(`${VS}bpf_maps`);
  }

  async listSysctls(directory: string): Promise<readonly string[]> {
    return this.#calls.read('host.listSysctls', () => {
      const names = [...this.sysctls.keys()]
        .filter((path) => path.startsWith(`${directory}/`))
        .map((path) => path.slice(directory.length + 1).split('/')[0] ?? '');
      return [...new Set(names)].sort();
    });
  }

  async bootId(): Promise<string> {
    return this.#calls.read('host.bootId', () => this.boot);
  }

  async hasBtf(): Promise<boolean> {
    return this.#calls.read('host.hasBtf', () => this.btf);
  }

  async requiresSignedModules(): Promise<boolean> {
    return this.#calls.read('host.requiresSignedModules', () => this.signaturesRequired);
  }

  missingPrivileges(): readonly string[] {
    return this.missing;
  }

  async namespacesUsingIpvs(): Promise<readonly string[]> {
    return this.#calls.read('host.namespacesUsingIpvs', () => [...this.otherNamespaces]);
  }

  /** The errors of kernel-module/ip_vs_bpf_control.c. */
  #checkControl(path: string, value: string): void {
    const refuse = (errno: string): never => {
      throw errnoError(`write "${value}" to /proc/sys/${path}`, errno);
    };
    if (path === `${VS}bpf_mode`) {
      if (value !== '0' && value !== '1') refuse('EINVAL');
      if (value === '1' && this.mapsOfModule === 'none') refuse('ENXIO');
    }
    if (path === `${VS}bpf_maps`) {
      const inUse = ['bpf_mode', 'bpf_conns'].some((name) => this.sysctls.get(`${VS}${name}`) !== '0');
      if (value === 'none' ? inUse : this.mapsOfModule !== 'none') refuse('EBUSY');
    }
    if (path === `${VS}bpf_conns` || path === `${VS}bpf_kfuncs`) refuse('EACCES');
  }

  #moduleChanged(file: ModuleFile, loaded: boolean): void {
    if (file.name !== 'ip_vs') return;
    for (const path of [...this.sysctls.keys()]) if (path.startsWith(VS)) this.sysctls.delete(path);
    if (!loaded) return;
    for (const [name, value] of Object.entries(VS_DEFAULTS)) this.sysctls.set(`${VS}${name}`, value);
    if (file.patched !== true) return;
    this.sysctls.set(`${VS}bpf_mode`, '0');
    this.sysctls.set(`${VS}bpf_maps`, 'none');
    this.sysctls.set(`${VS}bpf_conns`, '0');
    this.sysctls.set(`${VS}bpf_kfuncs`, this.offersKfuncs ? '1' : '0');
  }
}
