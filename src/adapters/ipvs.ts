// SPDX-License-Identifier: Apache-2.0
/** The IPVS table by generic netlink, as net/netfilter/ipvs/ip_vs_ctl.c has it. */
import { createReadStream } from 'node:fs';
import { endText } from '../core/addresses.ts';
import { errnoError, errnoOf, isNotFound } from '../core/errors.ts';
import type { Ipvs, IpvsDaemon, IpvsTimeouts, RealServer, VirtualServer } from '../ports.ts';
import { GenericFamily, type GenericRequest, type GenericRequests } from './generic-netlink.ts';
import {
  decodeDaemon,
  decodeRealServer,
  decodeTimeouts,
  decodeVirtualServer,
  encodeIdentity,
  encodeRealServer,
  encodeTimeouts,
  encodeVirtualServer,
} from './ipvs-codec.ts';
import { type IpvsListing, listingKey, parseListing, readListing } from './ipvs-listing.ts';
import { NLM_F_DUMP } from './netlink-socket.ts';

const CMD_NEW_SERVICE = 1;
const CMD_SET_SERVICE = 2;
const CMD_DEL_SERVICE = 3;
const CMD_GET_SERVICE = 4;
const CMD_NEW_DEST = 5;
const CMD_SET_DEST = 6;
const CMD_GET_DEST = 8;
const CMD_GET_DAEMON = 11;
const CMD_SET_CONFIG = 12;
const CMD_GET_CONFIG = 13;
const CMD_FLUSH = 17;
const NEWLINE = 10;
/** All is read after this time also if the listing has not changed: it does not say everything. */
const READ_EVERY_MS = 30_000;

/** "TCP 192.0.2.1:80" or "FWM 7", for errors and for a stable order. */
function countOf(byte: number, bytes: Buffer): number {
  let count = 0;
  for (let at = bytes.indexOf(byte); at >= 0; at = bytes.indexOf(byte, at + 1)) count += 1;
  return count;
}

function nameOf(server: VirtualServer): string {
  if (server.fwmark !== undefined) return `FWM ${server.fwmark} ${server.family}`;
  return `${server.protocol} ${endText(server.address ?? '', server.port ?? 0)}`;
}

/** What was read last, and what the listing said before and after. */
interface LastRead {
  readonly listing: string;
  readonly servers: readonly VirtualServer[];
  /** performance.now() */
  readonly at: number;
}

/** The real servers of a virtual server as they were when the listing said this of it. */
interface Known {
  readonly listed: string;
  readonly realServers: readonly RealServer[];
}

export class NetlinkIpvs implements Ipvs {
  readonly #family = new GenericFamily('IPVS', 1);
  /** By listingKey(). */
  #known: ReadonlyMap<string, Known> = new Map();
  #last: LastRead | undefined;

  async available(): Promise<boolean> {
    return (await this.#family.id()) !== undefined;
  }

  async familyId(): Promise<number | undefined> {
    return this.#family.id();
  }

  /** A line a connection, after a line of titles; there is no file without the module. */
  async connectionCount(): Promise<number> {
    try {
      let lines = 0;
      for await (const chunk of createReadStream('/proc/net/ip_vs_conn')) {
        lines += countOf(NEWLINE, chunk as Buffer);
      }
      return Math.max(0, lines - 1);
    } catch (error) {
      if (isNotFound(error)) return 0;
      throw errnoError('read /proc/net/ip_vs_conn', errnoOf(error) ?? 'EIO', error);
    }
  }

  /** Virtual servers by name; real servers in the kernel's order, which schedulers go by. */
  async virtualServers({ exact = false } = {}): Promise<readonly VirtualServer[]> {
    return this.#family.use(async ({ request }) => {
      const listing = await readListing();
      if (!exact && this.#last?.listing === listing && performance.now() < this.#last.at + READ_EVERY_MS) {
        return this.#last.servers;
      }
      const messages = await request({
        action: 'list virtual servers',
        command: CMD_GET_SERVICE,
        flags: NLM_F_DUMP,
      });
      const before = parseListing(listing);
      const servers: VirtualServer[] = [];
      for (const message of messages) {
        const server = decodeVirtualServer(message);
        const known = exact ? undefined : this.#realServersOf(server, before);
        servers.push({ ...server, realServers: known ?? (await realServers(request, server)) });
      }
      servers.sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
      const after = await readListing();
      this.#remember(servers, before, parseListing(after));
      this.#last = after === listing ? { listing, servers, at: performance.now() } : undefined;
      return servers;
    });
  }

  #realServersOf(server: VirtualServer, listing: IpvsListing): readonly RealServer[] | undefined {
    const key = listingKey(server);
    const known = key === undefined ? undefined : this.#known.get(key);
    return key !== undefined && known?.listed === listing.get(key) ? known?.realServers : undefined;
  }

  /** What changed while it was read is read again next time. */
  #remember(servers: readonly VirtualServer[], before: IpvsListing, after: IpvsListing): void {
    this.#known = new Map(
      servers.flatMap((server): [string, Known][] => {
        const key = listingKey(server);
        const listed = key === undefined ? undefined : before.get(key);
        if (key === undefined || listed === undefined || listed !== after.get(key)) return [];
        return [[key, { listed, realServers: server.realServers }]];
      }),
    );
  }

  async timeouts(): Promise<IpvsTimeouts> {
    return this.#family.use(async ({ request }) => {
      const messages = await request({ action: 'read timeouts', command: CMD_GET_CONFIG });
      return decodeTimeouts(messages[0] ?? Buffer.alloc(0));
    });
  }

  async daemons(): Promise<readonly IpvsDaemon[]> {
    return this.#family.use(async ({ request }) => {
      const messages = await request({ action: 'list daemons', command: CMD_GET_DAEMON, flags: NLM_F_DUMP });
      return messages.map(decodeDaemon);
    });
  }

  async flush(): Promise<void> {
    this.#last = undefined;
    await this.#family.use(({ request }) => request({ action: 'flush', command: CMD_FLUSH }));
  }

  /** Adds and edits, never deletes: real servers that are not in the list stay. */
  async restore(virtualServers: readonly VirtualServer[]): Promise<void> {
    this.#last = undefined;
    await this.#family.use(async ({ requestAll }) => {
      const entries = virtualServers.flatMap(entriesOf);
      const added = await requestAll(entries.map(({ add }) => add));
      const present = entries.filter((_, index) => errnoOf(added[index]) === 'EEXIST');
      const edited = await requestAll(present.map(({ edit }) => edit));
      const failure = [...added, ...edited].find(
        (error) => error !== undefined && errnoOf(error) !== 'EEXIST',
      );
      if (failure !== undefined) throw failure;
    });
  }

  async remove(server: VirtualServer): Promise<boolean> {
    this.#last = undefined;
    return this.#family.use(async ({ request }) => {
      try {
        const data = [encodeIdentity(server)];
        await request({ action: `delete virtual server ${nameOf(server)}`, command: CMD_DEL_SERVICE, data });
        return true;
      } catch (error) {
        // A kernel without IPv6 has no virtual server of it.
        if (isNotFound(error) || errnoOf(error) === 'EAFNOSUPPORT') return false;
        throw error;
      }
    });
  }

  async setTimeouts(timeouts: IpvsTimeouts): Promise<void> {
    await this.#family.use(({ request }) =>
      request({ action: 'set timeouts', command: CMD_SET_CONFIG, data: encodeTimeouts(timeouts) }),
    );
  }

  /** Closes the socket. */
  async close(): Promise<void> {
    await this.#family.close();
  }
}

async function realServers(
  request: GenericRequests['request'],
  server: VirtualServer,
): Promise<readonly RealServer[]> {
  const messages = await request({
    action: `list real servers of ${nameOf(server)}`,
    command: CMD_GET_DEST,
    flags: NLM_F_DUMP,
    data: [encodeIdentity(server)],
  });
  return messages.map(decodeRealServer);
}

/** What is added, or edited if it is there already. */
interface Entry {
  readonly add: GenericRequest;
  readonly edit: GenericRequest;
}

/** The virtual server, then its real servers. */
function entriesOf(server: VirtualServer): readonly Entry[] {
  const name = nameOf(server);
  const service = entry(`virtual server ${name}`, {
    add: CMD_NEW_SERVICE,
    edit: CMD_SET_SERVICE,
    data: [encodeVirtualServer(server)],
  });
  // The kernel puts a new real server before the others: the last one is added first.
  const reals = server.realServers.toReversed().map((real) =>
    entry(`real server ${endText(real.address, real.port)} of ${name}`, {
      add: CMD_NEW_DEST,
      edit: CMD_SET_DEST,
      data: [encodeIdentity(server), encodeRealServer(real)],
    }),
  );
  return [service, ...reals];
}

function entry(
  what: string,
  { add, edit, data }: { readonly add: number; readonly edit: number; readonly data: readonly Uint8Array[] },
): Entry {
  return {
    add: { action: `add ${what}`, command: add, data },
    edit: { action: `edit ${what}`, command: edit, data },
  };
}
