// SPDX-License-Identifier: Apache-2.0
/**
 * Numbered datagrams through the IPVS table while its module is exchanged. The client is in a network namespace,
 * the real server is a socket of this machine, so that no route and no rule for forwarded packets plays a part:
 *
 *   client .242 --- .241:9 (virtual server) director .241:10 (real server)
 */
import { createSocket, type Socket } from 'node:dgram';
import { addressFamily } from '../core/abi.ts';
import { HostError } from '../core/errors.ts';
import { SELF_CHECK_CLIENT_SIDE } from '../core/interfaces.ts';
import { outageOf } from '../core/outage.ts';
import {
  freeTestAddresses,
  OUTAGE_PROBE_PORT,
  outageProbeServer,
  SELF_CHECK_PORT,
  type TestAddresses,
} from '../core/self-check-network.ts';
import type { Clock, Ipvs, Links, OutageProbe, OutageResult, VirtualServer } from '../ports.ts';
import { NetworkNamespace } from './network-namespace.ts';
import { createClientSide } from './test-network.ts';

const EVERY_MS = 10;
const FIRST_ANSWER_MS = 1_000;
const LAST_ANSWER_MS = 2_000;

export interface OutageProbePorts {
  readonly links: Links;
  readonly ipvs: Ipvs;
  readonly clock: Clock;
}

interface Running {
  readonly virtual: VirtualServer;
  /** Number of the next packet. */
  sent: number;
  readonly answeredAtMs: Map<number, number>;
  /** Undoes what start() did, the last thing first. */
  readonly undo: (() => unknown)[];
}

export class VethOutageProbe implements OutageProbe {
  readonly #ports: OutageProbePorts;
  #running: Running | undefined;
  #problem: string | undefined;

  constructor(ports: OutageProbePorts) {
    this.#ports = ports;
  }

  async start(scheduler: string): Promise<void> {
    this.#problem = undefined;
    try {
      await this.abort();
      await this.#begin(scheduler);
    } catch (error) {
      this.#problem = textOf(error);
      await this.#abortAfter();
    }
  }

  async stop(): Promise<OutageResult> {
    const running = this.#running;
    const problem = this.#problem;
    this.#problem = undefined;
    if (running === undefined) return { measured: false, why: problem ?? 'The exchange was interrupted.' };
    const last = await this.#answerFrom(running, running.sent, LAST_ANSWER_MS);
    const outage = outageOf(running.answeredAtMs);
    await this.#abortAfter();
    if (this.#problem !== undefined) return { measured: false, why: this.#problem };
    if (!last || outage === undefined) {
      return {
        measured: false,
        why: `The probe had no answer within ${LAST_ANSWER_MS} ms after the exchange.`,
      };
    }
    return { measured: true, outage };
  }

  async abort(): Promise<void> {
    const running = this.#running;
    if (running === undefined) return;
    this.#running = undefined;
    const errors: unknown[] = [];
    for (const undo of running.undo.toReversed()) {
      try {
        await undo();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }

  /** What is left then is found by its addresses and its name when the next steps are planned. */
  async #abortAfter(): Promise<void> {
    try {
      await this.abort();
    } catch (error) {
      this.#problem ??= textOf(error);
    }
  }

  async #begin(scheduler: string): Promise<void> {
    const { links, ipvs } = this.#ports;
    const addresses = freeTestAddresses(await links.addresses());
    const virtual = outageProbeServer(addresses, scheduler);
    const running: Running = { virtual, sent: 0, answeredAtMs: new Map(), undo: [] };
    this.#running = running;
    const namespace = NetworkNamespace.create();
    running.undo.push(() => namespace.close());
    running.undo.push(() => links.remove(SELF_CHECK_CLIENT_SIDE));
    await createClientSide(links, [addresses], { netns: namespace.path, gateway: false });
    const server = await bound(addresses.virtual, OUTAGE_PROBE_PORT, running);
    server.on('message', (data, { port, address }) => server.send(data, port, address, ignoreLoss));
    running.undo.push(async () => (await ipvs.available()) && ipvs.remove(virtual));
    await ipvs.restore([virtual]);
    // A socket stays where it was made, and everything else that this program does meanwhile must not be there.
    const client = await namespace.run(() => bound(addresses.client, 0, running));
    this.#send(client, addresses, running);
    if (await this.#answerFrom(running, 0, FIRST_ANSWER_MS)) return;
    throw new HostError(`the probe had no answer within ${FIRST_ANSWER_MS} ms before the exchange`, {
      code: 'SystemError',
    });
  }

  #send(client: Socket, { virtual }: TestAddresses, running: Running): void {
    const { clock } = this.#ports;
    client.on('message', (data) => running.answeredAtMs.set(data.readUInt32BE(0), clock.now()));
    const timer = setInterval(() => {
      const packet = Buffer.alloc(4);
      packet.writeUInt32BE(running.sent);
      running.sent += 1;
      client.send(packet, SELF_CHECK_PORT, virtual, ignoreLoss);
    }, EVERY_MS);
    running.undo.push(() => clearInterval(timer));
  }

  /** True as soon as packet `first` or a later one was answered. */
  async #answerFrom({ answeredAtMs }: Running, first: number, limitMs: number): Promise<boolean> {
    const { clock } = this.#ports;
    const answered = (): boolean => [...answeredAtMs.keys()].some((number) => number >= first);
    for (const end = clock.now() + limitMs; !answered(); ) {
      if (clock.now() > end) return false;
      await clock.sleep(EVERY_MS);
    }
    return true;
  }
}

/** A packet that cannot be sent is one that is not answered. */
function ignoreLoss(): void {}

async function bound(address: string, port: number, { undo }: Running): Promise<Socket> {
  const socket = createSocket(addressFamily(address) === 'IPv4' ? 'udp4' : 'udp6');
  undo.push(() => {
    socket.close();
  });
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.bind({ address, port, exclusive: true }, resolve);
  });
  socket.on('error', ignoreLoss);
  return socket;
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
