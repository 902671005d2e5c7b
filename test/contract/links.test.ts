// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { exec } from '../../src/adapters/exec.ts';
import { NetlinkLinks } from '../../src/adapters/links.ts';
import type { Links } from '../../src/ports.ts';
import { fakeMachine } from '../fakes/fake-machine.ts';
import { ON_REAL_KERNEL, type Subject } from './subject.ts';

const NETNS = 'contract';

interface Outside {
  /** `ip route add PREFIX dev NAME [via GATEWAY] [src SOURCE]` */
  addRoute(prefix: string, name: string, gateway?: string, source?: string): Promise<void>;
  /** `ip address add PREFIX dev NAME` with what makes it so. */
  addAddress(prefix: string, name: string, is: 'deprecated' | 'tentative'): Promise<void>;
}

async function realSubject(): Promise<Subject<Links, Outside>> {
  const port = new NetlinkLinks();
  const cleanup = async (): Promise<void> => {
    await port.remove('ct0');
    await port.removeNetns(NETNS);
    await port.close();
  };
  const addRoute: Outside['addRoute'] = async (prefix, name, gateway, source) => {
    const via = gateway === undefined ? [] : ['via', gateway];
    const src = source === undefined ? [] : ['src', source];
    await exec('ip', ['route', 'add', prefix, 'dev', name, ...via, ...src]);
  };
  const addAddress: Outside['addAddress'] = async (prefix, name, is) => {
    // Duplicate address detection takes a second or two.
    const how = is === 'deprecated' ? ['preferred_lft', '0', 'nodad'] : [];
    await exec('ip', ['address', 'add', prefix, 'dev', name, ...how]);
  };
  return { port, outside: { addRoute, addAddress }, cleanup };
}

async function fakeSubject(): Promise<Subject<Links, Outside>> {
  const { links } = fakeMachine();
  const outside: Outside = {
    addRoute: async (prefix, name, gateway, source) =>
      links.addRoute(prefix, name, gateway !== undefined, source),
    addAddress: async (prefix, name, is) => {
      const index = (await links.list()).find((link) => link.name === name)?.index ?? 0;
      links.addAddress(index, prefix, { [is]: true });
    },
  };
  return { port: links, outside, cleanup: async () => undefined };
}

const subject = ON_REAL_KERNEL ? { name: 'kernel', make: realSubject } : { name: 'fake', make: fakeSubject };

describe.each([subject])('Links ($name)', ({ make }) => {
  let links: Links;
  let outside: Outside;
  let cleanup: () => Promise<void>;
  beforeEach(async () => {
    ({ port: links, outside, cleanup } = await make());
  });
  afterEach(() => cleanup());

  async function createVeth(): Promise<void> {
    await links.createVeth({
      name: 'ct0',
      peer: 'ct1',
      addresses: ['192.0.2.1/30', '2001:db8::1/64'],
      peerNetns: await links.createNetns(NETNS),
      peerAddresses: ['192.0.2.2/30', '2001:db8::2/64'],
    });
  }

  it('lists the loopback link with its addresses', async () => {
    const loopback = (await links.list()).find((link) => link.name === 'lo');
    expect(loopback).toMatchObject({ index: 1, type: 'loopback', up: true, mtu: 65536 });
    const addresses = (await links.addresses()).filter((address) => address.linkIndex === 1);
    expect(addresses).toContainEqual({
      linkIndex: 1,
      address: '127.0.0.1',
      prefixLength: 8,
      family: 'IPv4',
      scope: 'host',
      secondary: false,
    });
  });

  it('creates a veth pair with its peer in another network namespace, and removes it', async () => {
    await createVeth();
    const all = await links.list();
    const made = all.find((link) => link.name === 'ct0');
    expect(made).toMatchObject({ type: 'veth', up: true, mtu: 1500 });
    expect(all.some((link) => link.name === 'ct1')).toBe(false);
    const own = (await links.addresses()).filter((address) => address.linkIndex === made?.index);
    expect(own).toContainEqual(
      expect.objectContaining({ address: '192.0.2.1', prefixLength: 30, scope: 'global' }),
    );
    expect(own).toContainEqual(
      expect.objectContaining({ address: '2001:db8::1', prefixLength: 64, family: 'IPv6' }),
    );
    expect(await links.remove('ct0')).toBe(true);
    expect(await links.remove('ct0')).toBe(false);
    expect((await links.list()).some((link) => link.name === 'ct0')).toBe(false);
    expect(await links.removeNetns(NETNS)).toBe(true);
    expect(await links.removeNetns(NETNS)).toBe(false);
  });

  it('lists routes to what is on a link and to what is behind a gateway there', async () => {
    await createVeth();
    await outside.addRoute('203.0.113.7/32', 'ct0');
    await outside.addRoute('203.0.113.128/25', 'ct0', '192.0.2.2');
    const linkIndex = (await links.list()).find(({ name }) => name === 'ct0')?.index;
    const routes = (await links.routes('IPv4')).filter((route) => route.linkIndex === linkIndex);
    expect(routes.toSorted((a, b) => (a.destination < b.destination ? -1 : 1))).toEqual([
      { destination: '192.0.2.0/30', linkIndex, viaGateway: false, source: '192.0.2.1' },
      { destination: '203.0.113.128/25', linkIndex, viaGateway: true },
      { destination: '203.0.113.7/32', linkIndex, viaGateway: false },
    ]);
    await links.remove('ct0');
    expect((await links.routes('IPv4')).some((route) => route.linkIndex === linkIndex)).toBe(false);
  });

  it('lists IPv6 routes, with the source that they name', async () => {
    await createVeth();
    await outside.addRoute('2001:db8:1::7/128', 'ct0');
    await outside.addRoute('2001:db8:2::/48', 'ct0', '2001:db8::2', '2001:db8::1');
    await outside.addRoute('::/0', 'ct0', '2001:db8::2');
    const linkIndex = (await links.list()).find(({ name }) => name === 'ct0')?.index;
    const routes = (await links.routes('IPv6')).filter(
      (route) => route.linkIndex === linkIndex && !route.destination.startsWith('fe80:'),
    );
    expect(routes.toSorted((a, b) => (a.destination < b.destination ? -1 : 1))).toEqual([
      { destination: '2001:db8:1::7/128', linkIndex, viaGateway: false },
      { destination: '2001:db8:2::/48', linkIndex, viaGateway: true, source: '2001:db8::1' },
      { destination: '2001:db8::/64', linkIndex, viaGateway: false },
      { destination: '::/0', linkIndex, viaGateway: true },
    ]);
  });

  it('tells addresses that no new connection should have', async () => {
    await createVeth();
    await outside.addAddress('2001:db8:5::1/64', 'ct0', 'deprecated');
    await outside.addAddress('2001:db8:6::1/64', 'ct0', 'tentative');
    const linkIndex = (await links.list()).find(({ name }) => name === 'ct0')?.index;
    const found = (await links.addresses()).filter(
      (address) => address.linkIndex === linkIndex && address.address.startsWith('2001:'),
    );
    expect(
      found
        .map(({ address, tentative = false, deprecated = false }) => ({ address, tentative, deprecated }))
        .toSorted((a, b) => (a.address < b.address ? -1 : 1)),
    ).toEqual([
      { address: '2001:db8:5::1', tentative: false, deprecated: true },
      { address: '2001:db8:6::1', tentative: true, deprecated: false },
      { address: '2001:db8::1', tentative: false, deprecated: false },
    ]);
  });

  it('says what is wrong with a name that is taken and a namespace that is not there', async () => {
    await createVeth();
    const again = { name: 'ct0', peer: 'ct2', addresses: [], peerAddresses: [] };
    await expect(links.createVeth({ ...again, peerNetns: `/run/netns/${NETNS}` })).rejects.toMatchObject({
      code: 'AlreadyExists',
    });
    await expect(
      links.createVeth({ ...again, name: 'ct3', peerNetns: '/run/netns/nosuch' }),
    ).rejects.toMatchObject({
      code: 'NotFound',
    });
    await expect(links.createNetns(NETNS)).rejects.toThrow();
  });

  it('answers requests that are made at once', async () => {
    const answers = await Promise.all(Array.from({ length: 50 }, () => links.list()));
    expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
  });

  if (ON_REAL_KERNEL) {
    it('gives the peer its addresses at once', async () => {
      await createVeth();
      for (const address of ['192.0.2.1', '2001:db8::1']) {
        const ping = ['--net=/run/netns/contract', 'ping', '-c', '1', '-W', '2', address];
        expect((await exec('nsenter', ping)).stdout).toContain(' 0% packet loss');
      }
    });
  }
});
