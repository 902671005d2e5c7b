// SPDX-License-Identifier: Apache-2.0
import { addressFamily, canonicalAddress, canonicalPrefix } from '../../src/core/abi.ts';
import { HostError } from '../../src/core/errors.ts';
import type { AddressFamily, Link, LinkAddress, Links, Route, VethOptions } from '../../src/ports.ts';
import type { Calls } from './calls.ts';

/** Links of the director's own network namespace; peers of veth pairs are elsewhere. */
export class FakeLinks implements Links {
  readonly #links = new Map<number, Link>();
  readonly #addresses: LinkAddress[] = [];
  readonly #routes: Route[] = [];
  /** Paths of network namespaces that exist. */
  readonly netns = new Set<string>();
  /** Called with the index of a link that is gone. */
  readonly onRemoved: ((ifindex: number) => void)[] = [];
  #nextIndex = 1;
  readonly #calls: Calls;

  constructor(calls: Calls) {
    this.#calls = calls;
    this.add({ name: 'lo', type: 'loopback', mtu: 65536 }, '127.0.0.1/8', '::1/128');
  }

  /** `ip link add` by a user, up, with addresses such as "192.0.2.1/24"; answers its index. */
  add(link: Partial<Link> & { readonly name: string }, ...addresses: readonly string[]): number {
    const index = this.#nextIndex++;
    this.#links.set(index, { index, type: 'ether', up: true, mtu: 1500, ...link });
    for (const address of addresses) this.addAddress(index, address);
    return index;
  }

  /** `ip address add` by a user; what the kernel sets about an address by itself is given as flags. */
  addAddress(
    linkIndex: number,
    prefix: string,
    flags: Partial<Pick<LinkAddress, 'secondary' | 'tentative' | 'deprecated'>> = {},
  ): void {
    const [address = '', length = ''] = prefix.split('/');
    const family = addressFamily(address);
    const loopback = this.#links.get(linkIndex)?.name === 'lo';
    this.#addresses.push({
      linkIndex,
      address: canonicalAddress(address),
      prefixLength: Number(length),
      family,
      scope: loopback ? 'host' : address.toLowerCase().startsWith('fe80:') ? 'link' : 'global',
      secondary: false,
      ...flags,
    });
  }

  /** `ip route add PREFIX dev NAME`, or with `via` a gateway there, or with `src`, by a user. */
  addRoute(prefix: string, name: string, viaGateway = false, source?: string): void {
    const linkIndex = this.#byName(name)?.index ?? 0;
    const src = source === undefined ? {} : { source };
    this.#routes.push({ destination: canonicalPrefix(prefix), linkIndex, viaGateway, ...src });
  }

  /** `ip link set` by a user. */
  change(name: string, change: Partial<Pick<Link, 'up' | 'mtu' | 'masterIndex'>>): void {
    const link = this.#byName(name);
    if (link !== undefined) this.#links.set(link.index, { ...link, ...change });
  }

  /** `ip link delete` by a user. */
  drop(name: string): boolean {
    const link = this.#byName(name);
    if (link === undefined) return false;
    this.#links.delete(link.index);
    const left = this.#addresses.filter((address) => address.linkIndex !== link.index);
    this.#addresses.splice(0, this.#addresses.length, ...left);
    const routes = this.#routes.filter(({ linkIndex }) => linkIndex !== link.index);
    this.#routes.splice(0, this.#routes.length, ...routes);
    for (const tell of this.onRemoved) tell(link.index);
    return true;
  }

  /** `ip link show INDEX` */
  byIndex(index: number): Link | undefined {
    return this.#links.get(index);
  }

  async list(): Promise<readonly Link[]> {
    return this.#calls.read('links.list', () => [...this.#links.values()].sort((a, b) => a.index - b.index));
  }

  async addresses(): Promise<readonly LinkAddress[]> {
    return this.#calls.read('links.addresses', () => [...this.#addresses]);
  }

  async routes(family: AddressFamily): Promise<readonly Route[]> {
    return this.#calls.read(`links.routes ${family}`, () =>
      [...this.#connected(), ...this.#routes].filter(
        ({ destination }) => addressFamily(destination) === family,
      ),
    );
  }

  async createVeth(options: VethOptions): Promise<void> {
    this.#calls.change('links.createVeth', options.name, () => {
      if (this.#byName(options.name) !== undefined) {
        throw new HostError(`link ${options.name}: EEXIST`, { code: 'AlreadyExists', errno: 'EEXIST' });
      }
      if (!this.netns.has(options.peerNetns)) {
        throw new HostError(`${options.peerNetns}: ENOENT`, { code: 'NotFound', errno: 'ENOENT' });
      }
      this.add({ name: options.name, type: 'veth' }, ...options.addresses);
    });
  }

  async remove(name: string): Promise<boolean> {
    return this.#calls.change('links.remove', name, () => this.drop(name));
  }

  async createNetns(name: string): Promise<string> {
    return this.#calls.change('links.createNetns', name, () => {
      const path = `/run/netns/${name}`;
      if (this.netns.has(path)) {
        throw new HostError(`${path}: EEXIST`, { code: 'AlreadyExists', errno: 'EEXIST' });
      }
      this.netns.add(path);
      return path;
    });
  }

  async removeNetns(name: string): Promise<boolean> {
    return this.#calls.change('links.removeNetns', name, () => this.netns.delete(`/run/netns/${name}`));
  }

  /** What the kernel adds with an address. */
  #connected(): Route[] {
    return this.#addresses
      .filter(
        ({ family, scope, prefixLength }) =>
          scope === 'global' && prefixLength < (family === 'IPv4' ? 32 : 128),
      )
      .filter(({ linkIndex }) => this.#links.get(linkIndex)?.up === true)
      .map(({ address, prefixLength, linkIndex, family }) => ({
        destination: canonicalPrefix(`${address}/${prefixLength}`),
        linkIndex,
        viaGateway: false,
        ...(family === 'IPv4' ? { source: address } : {}),
      }));
  }

  #byName(name: string): Link | undefined {
    return [...this.#links.values()].find((link) => link.name === name);
  }
}
