// SPDX-License-Identifier: Apache-2.0
/**
 * A packet through the whole data path. One network namespace plays both client and real server, on a veth pair
 * each; the director's ends are here:
 *
 *   client .242 --- .241 (virtual server) director .245 (SNAT) --- .246 real server
 *
 * By IPv4, or by IPv6 on a machine that has addresses of IPv6 only.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { addressFamily } from '../core/abi.ts';
import { HostError, type HostErrorCode } from '../core/errors.ts';
import { SELF_CHECK_CLIENT_SIDE, SELF_CHECK_PREFIX } from '../core/interfaces.ts';
import {
  ALL_TEST_ADDRESSES,
  alone,
  freeTestAddresses,
  inPair,
  linkLocals,
  outageProbeServer,
  SELF_CHECK_PORT,
  selfCheckServer,
  type TestAddresses,
} from '../core/self-check-network.ts';
import type { Ipvs, SelfCheck } from '../ports.ts';
import { deadline } from './deadline.ts';
import { NetworkNamespace } from './network-namespace.ts';
import {
  attachPrograms,
  createClientSide,
  detachPrograms,
  openSockets,
  type TestNetworkPorts,
} from './test-network.ts';

const SERVER_SIDE = `${SELF_CHECK_PREFIX}1`;
const REPLY = 'ipvs-bpf';
const TIMEOUT_MS = 10_000;
/** The highest: the planner gives out the lowest that is free. */
const ADDRESS_ID = 1023;

export interface SelfCheckPorts extends TestNetworkPorts {
  readonly ipvs: Ipvs;
}

export class VethSelfCheck implements SelfCheck {
  readonly #ports: SelfCheckPorts;

  constructor(ports: SelfCheckPorts) {
    this.#ports = ports;
  }

  async run(serviceId: number): Promise<void> {
    await this.remove();
    const addresses = freeTestAddresses(await this.#ports.links.addresses());
    const namespace = NetworkNamespace.create();
    try {
      await this.#build(addresses, serviceId, namespace.path);
      await exchange(addresses, namespace, 'Accelerated');
    } finally {
      await this.remove();
      namespace.close();
    }
  }

  async runNative(): Promise<void> {
    await this.remove();
    const { links, ipvs } = this.#ports;
    const addresses = freeTestAddresses(await links.addresses());
    const namespace = NetworkNamespace.create();
    try {
      await links.createVeth({
        name: SERVER_SIDE,
        peer: 'server',
        addresses: [inPair(addresses.snat), alone(addresses.virtual), ...linkLocals(addresses.snat)],
        peerNetns: namespace.path,
        peerAddresses: [inPair(addresses.real)],
      });
      await ipvs.restore([selfCheckServer(addresses)]);
      // IPVS takes requests of this host at LOCAL_OUT; from the link's address the reply finds the way back.
      await exchange({ ...addresses, client: addresses.snat }, namespace, 'Native');
    } finally {
      await this.remove();
      namespace.close();
    }
  }

  /** The namespace goes with its process, and the veth pairs with it; the rest is found by address. */
  async remove(): Promise<void> {
    const { links, ipvs, datapath } = this.#ports;
    for (const addresses of ALL_TEST_ADDRESSES) {
      if (!(await ipvs.available())) continue;
      await ipvs.remove(selfCheckServer(addresses));
      await ipvs.remove(outageProbeServer(addresses, ''));
    }
    if ((await datapath.state()) !== undefined) await this.#removeEntries();
    await links.remove(SELF_CHECK_CLIENT_SIDE);
    await links.remove(SERVER_SIDE);
  }

  async #removeEntries(): Promise<void> {
    const { datapath } = this.#ports;
    const virtual = new Set(ALL_TEST_ADDRESSES.map((addresses) => addresses.virtual));
    for (const entry of await datapath.services()) {
      if (virtual.has(entry.address) && entry.port === SELF_CHECK_PORT) await datapath.removeService(entry);
    }
    for (const entry of await datapath.snatInterfaces()) {
      if (entry.addressId === ADDRESS_ID) await datapath.removeSnatInterface(entry);
    }
    await detachPrograms(this.#ports);
  }

  async #build(addresses: TestAddresses, serviceId: number, peerNetns: string): Promise<void> {
    const { links, ipvs, datapath } = this.#ports;
    await createClientSide(links, [addresses], { netns: peerNetns, gateway: false });
    await links.createVeth({
      name: SERVER_SIDE,
      peer: 'server',
      addresses: [inPair(addresses.snat), ...linkLocals(addresses.snat)],
      peerNetns,
      peerAddresses: [inPair(addresses.real)],
    });
    const server = (await links.list()).find(({ name }) => name === SERVER_SIDE);
    if (server === undefined) throw new HostError(`${SERVER_SIDE} is gone`, { code: 'NotFound' });
    await datapath.putSnatAddress({ id: ADDRESS_ID, address: addresses.snat });
    const family = addressFamily(addresses.snat);
    await datapath.putSnatInterface({ ifindex: server.index, family, addressId: ADDRESS_ID });
    await attachPrograms(this.#ports);
    await datapath.putService({
      address: addresses.virtual,
      port: SELF_CHECK_PORT,
      protocol: 'TCP',
      id: serviceId,
      snat: 'Always',
      dropOnFull: true,
    });
    await ipvs.restore([selfCheckServer(addresses)]);
  }
}

/** A connection to the virtual server, and what the real server, in the namespace, sees of it. */
async function exchange(
  addresses: TestAddresses,
  namespace: NetworkNamespace,
  path: 'Accelerated' | 'Native',
): Promise<void> {
  let seen: string | undefined;
  const server = createServer((socket) => {
    seen = socket.remoteAddress;
    socket.on('error', () => socket.destroy());
    socket.write(REPLY);
  });
  // Sockets stay where they were made, and everything else that this program does meanwhile must not be there.
  await namespace.run(() => listen(server, addresses.real));
  const make = async (): Promise<Socket> => {
    const end = { host: addresses.virtual, port: SELF_CHECK_PORT, localAddress: addresses.client };
    const [socket] = await openSockets([end]);
    return socket as Socket;
  };
  const client = path === 'Native' ? await make() : await namespace.run(make);
  try {
    const reply = await firstData(client);
    if (reply !== REPLY) throw failure(`the reply was "${reply}"`);
    if (seen !== addresses.snat)
      throw failure(`the real server saw the client as ${seen}, not as ${addresses.snat}`);
  } catch (error) {
    if (!(error instanceof NoAnswer)) throw error;
    throw failure(
      seen === undefined ? `no request arrived (${error.message})` : `no reply arrived (${error.message})`,
      error.late ? 'CommandTimedOut' : 'SystemError',
    );
  } finally {
    // With a reset IPVS frees the connection within seconds, and the session with it. A socket that is not
    // connected yet would wait for that first.
    if (client.connecting) client.destroy();
    else client.resetAndDestroy();
    server.close();
  }
}

class NoAnswer extends Error {
  /** True if the time was over; otherwise the connection failed. */
  readonly late: boolean;

  constructor(message: string, late: boolean) {
    super(message);
    this.late = late;
  }
}

function failure(what: string, code: HostErrorCode = 'SystemError'): HostError {
  return new HostError(`a request to a temporary virtual server failed: ${what}`, { code });
}

function listen(server: Server, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port: SELF_CHECK_PORT }, resolve);
  });
}

function firstData(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    const end = deadline(TIMEOUT_MS, () => reject(new NoAnswer(`after ${TIMEOUT_MS} ms`, true)));
    socket.once('data', (data) => resolve(data.toString('utf8')));
    socket.once('error', (error) => reject(new NoAnswer(error.message, false)));
    socket.once('close', end);
  });
}
