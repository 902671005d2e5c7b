// SPDX-License-Identifier: Apache-2.0
/** Addresses of the node's own test networks, and the virtual servers that belong to them. */
import type { LinkAddress, VirtualServer } from '../ports.ts';
import { HostError } from './errors.ts';

export const SELF_CHECK_PORT = 9;
/** Where the outage probe's virtual server leads to. */
export const OUTAGE_PROBE_PORT = 10;
/** Ends of RFC 2544's benchmark network and of TEST-NET-1, in which hardly anybody has addresses. */
const NETWORKS = ['198.19.255.', '198.18.255.', '192.0.2.'] as const;

export interface TestAddresses {
  readonly client: string;
  readonly virtual: string;
  readonly snat: string;
  readonly real: string;
}

/** Those of all networks, for cleaning up. */
export const ALL_TEST_ADDRESSES: readonly TestAddresses[] = NETWORKS.map((network) => ({
  virtual: `${network}241`,
  client: `${network}242`,
  snat: `${network}245`,
  real: `${network}246`,
}));

/** Of the first network that this machine has no address in. Throws HostError AlreadyExists if there is none. */
export function freeTestAddresses(taken: readonly LinkAddress[]): TestAddresses {
  const index = NETWORKS.findIndex((network) => !taken.some(({ address }) => address.startsWith(network)));
  const free = ALL_TEST_ADDRESSES[index];
  if (free !== undefined) return free;
  throw new HostError(
    `this machine has addresses in all of ${NETWORKS.map((net) => `${net}0/24`).join(', ')}`,
    {
      code: 'AlreadyExists',
      advice: 'The self-check needs one of these networks for itself.',
    },
  );
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
  return {
    family: 'IPv4',
    protocol: how.protocol,
    address,
    port: SELF_CHECK_PORT,
    scheduler: how.scheduler,
    flags: 0,
    timeoutSeconds: 0,
    netmask: 0xffffffff,
    realServers: [
      {
        family: 'IPv4',
        ...how.real,
        forwardingMethod: 0,
        weight: 1,
        upperThreshold: 0,
        lowerThreshold: 0,
      },
    ],
  };
}
