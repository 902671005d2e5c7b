// SPDX-License-Identifier: Apache-2.0
/** Connections of IPVS: out of /proc/net/ip_vs_conn, and back by messages to its own backup daemon. */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connections, SessionEnds, TrackedConnection } from '../connection-ports.ts';
import { errnoError, errnoOf, HostError, isNotFound } from '../core/errors.ts';
import { connectionKey, isOurDaemon, RESTORE_DAEMON, syncMessages } from '../core/ipvs-sync.ts';
import { changeConntrackEntries } from './conntrack.ts';
import { GenericFamily, type GenericRequests } from './generic-netlink.ts';
import { decodeDaemon, encodeDaemon } from './ipvs-codec.ts';
import { NLM_F_DUMP } from './netlink-socket.ts';

const CMD_NEW_DAEMON = 9;
const CMD_DEL_DAEMON = 10;
const CMD_GET_DAEMON = 11;
/** IP_VS_SYNC_GROUP and IP_VS_SYNC_PORT, net/ip_vs.h: no other host hears what goes by the loopback device. */
const GROUP = '224.0.0.81';
const PORT = 8848;
const LOOPBACK_ADDRESS = '127.0.0.1';
/** They fit into the least receive buffer that a socket gets. */
const MESSAGES_AT_ONCE = 32;
const TRIES = 3;
const POLL_MS = 5;
const POLLS = 400;

export class KernelConnections implements Connections {
  readonly #family = new GenericFamily('IPVS', 1);
  /** What track() has done since the last restore(). */
  readonly #tracked = new Map<string, TrackedConnection>();

  async list(): Promise<readonly string[]> {
    const lines = (await readProc('ip_vs_conn')) ?? '';
    return lines.split('\n').slice(1).filter(Boolean);
  }

  async restore(lines: readonly string[]): Promise<number> {
    if (lines.length === 0) return 0;
    await this.endRestore();
    const socket = await openSocket();
    try {
      await this.#family.use(({ request }) => start(request));
      let missing = lines;
      for (let tries = 0; tries < TRIES && missing.length > 0; tries += 1) {
        await send(socket, syncMessages(missing, RESTORE_DAEMON.syncId));
        missing = await this.#missing(missing);
      }
      this.#tracked.clear();
      return lines.length - missing.length;
    } finally {
      socket.close();
      await this.endRestore();
    }
  }

  async endRestore(): Promise<void> {
    try {
      await this.#family.use(({ request }) => stopOurs(request));
    } catch (error) {
      // Without the module there is none.
      if (!isNotFound(error)) throw error;
    }
  }

  async track(connections: readonly TrackedConnection[]): Promise<number> {
    const all = new Map(connections.map((connection) => [identity(connection), connection]));
    const ended = [...this.#tracked].filter(([key, { state }]) => all.get(key)?.state !== state);
    for (const [key] of ended) this.#tracked.delete(key);
    const fresh = [...all].filter(([key]) => !this.#tracked.has(key));
    const failed = new Set(
      await changeConntrackEntries(
        ended.map(([, each]) => each),
        fresh.map(([, each]) => each),
      ),
    );
    // Those that failed are tried again, and told again, the next time.
    for (const [key, connection] of fresh) if (!failed.has(connection)) this.#tracked.set(key, connection);
    return failed.size;
  }

  /** Closes the socket. */
  async close(): Promise<void> {
    await this.#family.close();
  }

  async #missing(lines: readonly string[]): Promise<readonly string[]> {
    const there = new Set((await this.list()).map(connectionKey));
    return lines.filter((line) => !there.has(connectionKey(line)));
  }
}

/** All but the state. */
function identity({ protocol, client, virtual, real, snat = client }: SessionEnds): string {
  const ends = [client, virtual, real, snat].map(({ address, port }) => `${address} ${port}`);
  return [protocol, ...ends].join(' ');
}

async function start(request: GenericRequests['request']): Promise<void> {
  await request({
    action: 'start a backup daemon',
    command: CMD_NEW_DAEMON,
    data: [encodeDaemon(RESTORE_DAEMON)],
  });
}

async function stopOurs(request: GenericRequests['request']): Promise<void> {
  const messages = await request({ action: 'list daemons', command: CMD_GET_DAEMON, flags: NLM_F_DUMP });
  if (!messages.map(decodeDaemon).some(isOurDaemon)) return;
  const data = [encodeDaemon(RESTORE_DAEMON)];
  await request({ action: 'stop the backup daemon', command: CMD_DEL_DAEMON, data });
}

async function openSocket(): Promise<Socket> {
  const socket = createSocket('udp4');
  const listening = once(socket, 'listening');
  socket.bind(0, LOOPBACK_ADDRESS);
  await listening;
  socket.setMulticastInterface(LOOPBACK_ADDRESS);
  return socket;
}

async function send(socket: Socket, messages: readonly Uint8Array[]): Promise<void> {
  for (let at = 0; at < messages.length; at += MESSAGES_AT_ONCE) {
    const some = messages.slice(at, at + MESSAGES_AT_ONCE);
    await Promise.all(some.map((message) => sendOne(socket, message)));
    await untilRead();
  }
}

function sendOne(socket: Socket, message: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.send(message, PORT, GROUP, (error) => {
      if (error === null) resolve();
      else reject(errnoError('send connections to the backup daemon', errnoOf(error) ?? 'EIO', error));
    });
  });
}

/** Until the daemon has taken all that was sent to it. */
async function untilRead(): Promise<void> {
  for (let poll = 0; poll < POLLS; poll += 1) {
    if (!waits((await readProc('udp')) ?? '')) return;
    await sleep(POLL_MS);
  }
  throw new HostError(`the backup daemon takes no connections for ${(POLLS * POLL_MS) / 1000} s`, {
    code: 'Busy',
    retry: true,
  });
}

/** Whether a listing of UDP sockets (/proc/net/udp) shows bytes that wait at the daemon's port. */
function waits(listing: string): boolean {
  const port = PORT.toString(16).toUpperCase();
  const queues = new RegExp(`:${port} \\S+ \\S+ \\S+:([0-9A-F]+)`, 'g');
  return [...listing.matchAll(queues)].some(([, queue = '']) => Number.parseInt(queue, 16) > 0);
}

async function readProc(name: string): Promise<string | undefined> {
  try {
    return await readFile(`/proc/net/${name}`, 'utf8');
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw errnoError(`read /proc/net/${name}`, errnoOf(error) ?? 'EIO', error);
  }
}
