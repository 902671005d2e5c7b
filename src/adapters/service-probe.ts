// SPDX-License-Identifier: Apache-2.0
/**
 * Connections to virtual servers by the accelerated path, from a client in a network namespace. It enters as
 * clients elsewhere do: PRE_ROUTING, ip_vs, and back by tc.
 *
 *   client .242 --- .241 director, virtual servers --- real servers
 */
import type { Socket } from 'node:net';
import { endText } from '../core/addresses.ts';
import { SELF_CHECK_CLIENT_SIDE } from '../core/interfaces.ts';
import { freeTestAddresses } from '../core/self-check-network.ts';
import { servingReals } from '../core/service-probe.ts';
import type { Clock, RealServer, ServiceProbe, ServiceVerdict, VirtualServer } from '../ports.ts';
import { deadline } from './deadline.ts';
import { NetworkNamespace } from './network-namespace.ts';
import {
  attachPrograms,
  createClientSide,
  detachPrograms,
  openSockets,
  type TestNetworkPorts,
} from './test-network.ts';

/** With time for one SYN that is lost: the kernel sends it again after a second. */
const CONNECT_MS = 1_300;
/** The same for two that are lost: the next one comes two seconds later. */
const MAX_CONNECT_MS = 3_300;
/** How much longer than a connection without IPVS one with it may take on a busy machine. */
const MAX_RATIO = 10;
const DIRECT_MS = 1_000;
/** No real server is asked for the first time later than this. */
const DIRECT_BEGIN_MS = 1_000;
const DIRECT_AT_ONCE = 100;
/** What closes in order has ended by then; the real server decides when it closes its side. */
const CLOSE_MS = 500;

export interface ServiceProbePorts extends TestNetworkPorts {
  readonly clock: Clock;
}

/** What went wrong; undefined: it is connected. */
type Problem = string | undefined;

export class VethServiceProbe implements ServiceProbe {
  readonly #ports: ServiceProbePorts;

  constructor(ports: ServiceProbePorts) {
    this.#ports = ports;
  }

  async run(servers: readonly VirtualServer[]): Promise<readonly ServiceVerdict[]> {
    const { links } = this.#ports;
    await this.#remove();
    const taken = await links.addresses();
    // A machine without IPv6 would refuse an address of it.
    const families = (['IPv4', 'IPv6'] as const).filter((family) =>
      servers.some((server) => server.family === family),
    );
    const networks = families.map((family) => freeTestAddresses(taken, family));
    const namespace = NetworkNamespace.create();
    const closing: Promise<void>[] = [];
    try {
      await createClientSide(links, networks, { netns: namespace.path, gateway: true });
      await attachPrograms(this.#ports);
      const verdicts = await this.#probe(servers, namespace, closing);
      await Promise.all(closing);
      return verdicts;
    } finally {
      // The namespace goes with its last holder, and what is left of the connections with it.
      namespace.close();
      await this.#remove();
    }
  }

  async #remove(): Promise<void> {
    const { links, datapath } = this.#ports;
    if ((await datapath.state()) !== undefined) await detachPrograms(this.#ports);
    await links.remove(SELF_CHECK_CLIENT_SIDE);
  }

  async #probe(
    servers: readonly VirtualServer[],
    namespace: NetworkNamespace,
    closing: Promise<void>[],
  ): Promise<readonly ServiceVerdict[]> {
    const { clock } = this.#ports;
    const first = await through(servers, namespace, { limitMs: CONNECT_MS, closing });
    const doubted = servers.filter((server) => first.get(server) !== undefined);
    const asked = clock.now();
    const unsure = await this.#doubts(doubted, closing);
    const limitMs = Math.min(MAX_CONNECT_MS, CONNECT_MS + MAX_RATIO * Math.round(clock.now() - asked));
    const certain = doubted.filter((server) => unsure.get(server) === undefined);
    const second = await through(certain, namespace, { limitMs, closing });
    return servers.map((server): ServiceVerdict => {
      const doubt = unsure.get(server);
      const problem = second.get(server);
      const text = `no connection through the virtual server (${first.get(server)})`;
      if (doubt !== undefined) return { verdict: 'Unsure', message: `${text}, and ${doubt}` };
      if (problem === undefined) return { verdict: 'Passed' };
      const count = servingReals(server).length;
      const direct = `all of its real servers (${count}) answer directly`;
      return {
        verdict: 'Failed',
        message: `no connection through the virtual server (${problem}); ${direct}`,
      };
    });
  }

  /** Why nothing can be concluded about a virtual server, for those of which that is so. */
  async #doubts(
    servers: readonly VirtualServer[],
    closing: Promise<void>[],
  ): Promise<ReadonlyMap<VirtualServer, string>> {
    const reals = new Map(servers.flatMap(servingReals).map((real) => [endOf(real), real]));
    const problems = await this.#directly([...reals.values()], closing);
    const doubts = new Map<VirtualServer, string>();
    for (const server of servers) {
      const ends = servingReals(server).map(endOf);
      const silent = ends.find((end) => problems.get(end) !== undefined || !problems.has(end));
      if (ends.length === 0) doubts.set(server, 'it has no real server');
      else if (silent !== undefined) {
        doubts.set(
          server,
          `real server ${silent} does not answer directly (${problems.get(silent) ?? 'not asked'})`,
        );
      }
    }
    return doubts;
  }

  /** Plain connections of this node to real servers. Those that were not asked in time have no answer. */
  async #directly(
    reals: readonly RealServer[],
    closing: Promise<void>[],
  ): Promise<ReadonlyMap<string, Problem>> {
    const { clock } = this.#ports;
    const problems = new Map<string, Problem>();
    const end = clock.now() + DIRECT_BEGIN_MS;
    for (let at = 0; at < reals.length && clock.now() < end; at += DIRECT_AT_ONCE) {
      const some = reals.slice(at, at + DIRECT_AT_ONCE);
      const sockets = await openSockets(some.map(({ address, port }) => ({ host: address, port })));
      const answers = await Promise.all(sockets.map((socket) => outcome(socket, DIRECT_MS, closing)));
      some.forEach((real, index) => {
        problems.set(endOf(real), answers[index]);
      });
    }
    return problems;
  }
}

/** Connections of the client to all of these virtual servers at once. */
async function through(
  servers: readonly VirtualServer[],
  namespace: NetworkNamespace,
  { limitMs, closing }: { readonly limitMs: number; readonly closing: Promise<void>[] },
): Promise<ReadonlyMap<VirtualServer, Problem>> {
  const ends = servers.map(({ address = '', port = 0 }) => ({ host: address, port }));
  const sockets = await namespace.run(() => openSockets(ends));
  const problems = await Promise.all(sockets.map((socket) => outcome(socket, limitMs, closing)));
  return new Map(servers.map((server, index) => [server, problems[index]]));
}

function endOf({ address, port }: RealServer): string {
  return endText(address, port);
}

/** Waits for the handshake, then begins to close. */
async function outcome(socket: Socket, limitMs: number, closing: Promise<void>[]): Promise<Problem> {
  const problem = await handshake(socket, limitMs);
  if (problem === undefined) closing.push(closeInOrder(socket));
  else socket.destroy();
  return problem;
}

function handshake(socket: Socket, limitMs: number): Promise<Problem> {
  return new Promise((resolve) => {
    const end = deadline(limitMs, () => resolve(`no answer after ${limitMs} ms`));
    const done = (problem: Problem): void => {
      end();
      resolve(problem);
    };
    socket.once('connect', () => done(undefined));
    socket.once('error', (error) => done(error.message));
  });
}

/** With FIN both ways: IPVS lets the connection go then. What the real server says meanwhile is read, or it would be a reset. */
function closeInOrder(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => socket.destroy(), CLOSE_MS);
    socket.once('close', () => {
      clearTimeout(timer);
      resolve();
    });
    socket.resume();
    socket.end();
  });
}
