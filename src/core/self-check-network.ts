// SPDX-License-Identifier: Apache-2.0
/** Addresses of the node's own test networks, and the virtual servers that belong to them. */
import type { AddressFamily, LinkAddress, VirtualServer } from '../ports.ts';
import { addressFamily } from './abi.ts';
import { HostError } from './errors.ts';

export const SELF_CHECK_PORT = 9;
/** Where the outage probe's virtual server leads to. */
export const OUTAGE_PROBE_PORT = 10;
/**
 * Ends of the benchmark networks of RFC 2544 and RFC 5180 and of documentation's networks, in which hardly anybody has
 * addresses.
 */
const NETWORKS = {
  IPv4: ['198.19.255.', '198.18.255.', '192.0.2.'],
  IPv6: ['2001:2:0:ffff:', '2001:2:0:fffe:', '2001:db8:ffff:ffff:'],
} as const;
/** Bits of a network of two hosts, and of one host. */
const BITS = { IPv4: { pair: 30, host: 32 }, IPv6: { pair: 126, host: 128 } } as const;

export interface TestAddresses {
  readonly client: string;
  readonly virtual: string;
  readonly snat: string;
  readonly real: string;
}

/** Those of all networks, for cleaning up. */
export const ALL_TEST_ADDRESSES: readonly TestAddresses[] = [
  ...NETWORKS.IPv4.map(testAddresses),
  ...NETWORKS.IPv6.map(testAddresses),
];

/** Hosts 241 to 246 of a network; with IPv6 in hexadecimal digits, as they are written. */
function testAddresses(network: string): TestAddresses {
  const prefix = network.endsWith(':') ? `${network}:` : network;
  return { virtual: `${prefix}241`, client: `${prefix}242`, snat: `${prefix}245`, real: `${prefix}246` };
}

/**
 * The family of the node's own test connections: IPv6 where the node has addresses of its own of that only. An IPv4
 * link-local one, as of a DNS cache, is none to go by.
 */
export function testFamily(addresses: readonly LinkAddress[]): AddressFamily {
  const own = addresses.filter(({ scope, address }) => scope === 'global' && !address.startsWith('169.254.'));
  const isIpv4 = ({ family }: LinkAddress): boolean => family === 'IPv4';
  return own.length === 0 || own.some(isIpv4) ? 'IPv4' : 'IPv6';
}

/** Of the first network that this machine has no address in. Throws HostError AlreadyExists if there is none. */
export function freeTestAddresses(
  taken: readonly LinkAddress[],
  family: AddressFamily = testFamily(taken),
): TestAddresses {
  const networks: readonly string[] = NETWORKS[family];
  const free = networks.find((network) => !taken.some(({ address }) => address.startsWith(network)));
  if (free !== undefined) return testAddresses(free);
  const list = networks.map((network) => (family === 'IPv4' ? `${network}0/24` : `${network}:/64`));
  throw new HostError(`this machine has addresses in all of ${list.join(', ')}`, {
    code: 'AlreadyExists',
    advice: 'The self-check needs one of these networks for itself.',
  });
}

/** "192.0.2.241/30": in the network that the two ends of a pair share. */
export function inPair(address: string): string {
  return `${address}/${BITS[addressFamily(address)].pair}`;
}

/** "192.0.2.241/32" */
export function alone(address: string): string {
  return `${address}/${BITS[addressFamily(address)].host}`;
}

/**
 * What an IPv6 interface of the director needs besides, to ask for its neighbours at once: the link-local address that
 * the kernel gives it is tentative for a second or two.
 */
export function linkLocals(address: string): readonly string[] {
  return addressFamily(address) === 'IPv6' ? [`fe80::${address.split('::')[1]}/64`] : [];
}

/** The check's own virtual server: requests to `addresses.virtual` reach `addresses.real`. */
export function selfCheckServer(addresses: TestAddresses): VirtualServer {
  return testServer(addresses.virtual, {
    protocol: 'TCP',
    scheduler: 'rr',
    real: { address: addresses.real, port: SELF_CHECK_PORT },
  });
}

/** The outage probe's: it leads to this machine itself, so that no other rule or route plays a part. */
export function outageProbeServer(addresses: TestAddresses, scheduler: string): VirtualServer {
  return testServer(addresses.virtual, {
    protocol: 'UDP',
    scheduler,
    real: { address: addresses.virtual, port: OUTAGE_PROBE_PORT },
  });
}

/** True for what a run that was killed may have left in a table, or in a copy of it. */
export function isTestServer({ address, port }: Pick<VirtualServer, 'address' | 'port'>): boolean {
  return port === SELF_CHECK_PORT && ALL_TEST_ADDRESSES.some(({ virtual }) => virtual === address);
}

function testServer(
  address: string,
  how: {
    readonly protocol: 'TCP' | 'UDP';
    readonly scheduler: string;
    readonly real: { readonly address: string; readonly port: number };
  },
): VirtualServer {
  const family = addressFamily(address);
  return {
    family,
    protocol: how.protocol,
    address,
    port: SELF_CHECK_PORT,
    scheduler: how.scheduler,
    flags: 0,
    timeoutSeconds: 0,
    netmask: family === 'IPv4' ? 0xffffffff : BITS.IPv6.host,
    realServers: [
      {
        family,
        ...how.real,
        forwardingMethod: 0,
        weight: 1,
        upperThreshold: 0,
        lowerThreshold: 0,
      },
    ],
  };
}
