// SPDX-License-Identifier: Apache-2.0
/** Links and their addresses by rtnetlink, in the network namespace of the process. */
import { open } from 'node:fs/promises';
import { addressBytes, addressFamily, familyByNumber, familyNumber, formatAddress } from '../core/abi.ts';
import { errnoError, isNotFound } from '../core/errors.ts';
import type { AddressFamily, Link, LinkAddress, Links, Route, VethOptions } from '../ports.ts';
import { exec } from './exec.ts';
import {
  attribute,
  attributeString,
  attributes,
  attributeUint32,
  NETLINK_ROUTE,
  NetlinkSocket,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  nested,
  stringOf,
} from './netlink-socket.ts';
import { parseRoute, RTM_GETROUTE, routesRequest } from './route-codec.ts';
import { SameBytes } from './same-bytes.ts';

// linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h, linux/veth.h
const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTM_NEWADDR = 20;
const RTM_GETADDR = 22;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_MASTER = 10;
const IFLA_LINKINFO = 18;
const IFLA_NET_NS_FD = 28;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const VETH_INFO_PEER = 1;
const IFF_UP = 1;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;
const IFA_F_SECONDARY = 0x01;
const IFA_F_NODAD = 0x02;
const IFA_F_DADFAILED = 0x08;
const IFA_F_DEPRECATED = 0x20;
const IFA_F_TENTATIVE = 0x40;
const IFINFOMSG_BYTES = 16;
const IFADDRMSG_BYTES = 8;

/** ARPHRD_* as iproute2 names them. */
const HARDWARE_TYPES: Readonly<Record<number, string>> = {
  1: 'ether',
  512: 'ppp',
  768: 'ipip',
  769: 'tunnel6',
  772: 'loopback',
  776: 'sit',
  778: 'gre',
  823: 'gre6',
  65534: 'none',
};

const SCOPES: Readonly<Record<number, LinkAddress['scope']>> = {
  0: 'global',
  200: 'site',
  253: 'link',
  254: 'host',
  255: 'nowhere',
};

const NETNS_DIRECTORY = '/run/netns';

export class NetlinkLinks implements Links {
  readonly #socket = new NetlinkSocket(NETLINK_ROUTE);
  readonly #addresses = new SameBytes((messages: readonly Buffer[]) => messages.flatMap(parseAddress));

  async list(): Promise<readonly Link[]> {
    const messages = await this.#socket.request({
      action: 'list links',
      type: RTM_GETLINK,
      flags: NLM_F_DUMP,
      data: new Uint8Array(IFINFOMSG_BYTES),
    });
    return messages.map(parseLink).sort((a, b) => a.index - b.index);
  }

  async addresses(): Promise<readonly LinkAddress[]> {
    const messages = await this.#socket.request({
      action: 'list addresses',
      type: RTM_GETADDR,
      flags: NLM_F_DUMP,
      data: new Uint8Array(IFADDRMSG_BYTES),
    });
    return this.#addresses.of(messages);
  }

  async routes(family: AddressFamily): Promise<readonly Route[]> {
    const messages = await this.#socket.request({
      action: `list ${family} routes`,
      type: RTM_GETROUTE,
      flags: NLM_F_DUMP,
      data: routesRequest(family),
    });
    return messages.flatMap(parseRoute);
  }

  async createVeth(options: VethOptions): Promise<void> {
    const netns = await open(options.peerNetns, 'r').catch((error: unknown) => {
      throw isNotFound(error) ? errnoError(`open ${options.peerNetns}`, 'ENOENT', error) : error;
    });
    try {
      await this.#addVeth(options, netns.fd);
    } finally {
      await netns.close();
    }
    const index = await this.#index(options.name);
    for (const address of options.addresses) await this.#addAddress(index, address);
    await this.#setUp(options.name, index);
    await configurePeer(options);
  }

  async remove(name: string): Promise<boolean> {
    const data = [new Uint8Array(IFINFOMSG_BYTES), attributeString(IFLA_IFNAME, name)];
    try {
      await this.#socket.request({
        action: `delete link ${name}`,
        type: RTM_DELLINK,
        data: Buffer.concat(data),
      });
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  }

  async createNetns(name: string): Promise<string> {
    await exec('ip', ['netns', 'add', name]);
    return `${NETNS_DIRECTORY}/${name}`;
  }

  async removeNetns(name: string): Promise<boolean> {
    try {
      await (await open(`${NETNS_DIRECTORY}/${name}`, 'r')).close();
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
    await exec('ip', ['netns', 'delete', name]);
    return true;
  }

  /** Closes the socket. */
  async close(): Promise<void> {
    await this.#socket.close();
  }

  async #addVeth(options: VethOptions, netnsFd: number): Promise<void> {
    const peer = attribute(VETH_INFO_PEER | 0x8000, [
      new Uint8Array(IFINFOMSG_BYTES),
      attributeString(IFLA_IFNAME, options.peer),
      attributeUint32(IFLA_NET_NS_FD, netnsFd),
    ]);
    const data = [
      new Uint8Array(IFINFOMSG_BYTES),
      attributeString(IFLA_IFNAME, options.name),
      nested(IFLA_LINKINFO, [attributeString(IFLA_INFO_KIND, 'veth'), nested(IFLA_INFO_DATA, [peer])]),
    ];
    await this.#socket.request({
      action: `add link ${options.name}`,
      type: RTM_NEWLINK,
      flags: NLM_F_CREATE | NLM_F_EXCL,
      data: Buffer.concat(data),
    });
  }

  async #index(name: string): Promise<number> {
    const link = (await this.list()).find((candidate) => candidate.name === name);
    if (link === undefined) throw errnoError(`link ${name}`, 'ENODEV');
    return link.index;
  }

  async #addAddress(index: number, prefix: string): Promise<void> {
    const [address = '', length = ''] = prefix.split('/');
    const family = addressFamily(address);
    const header = Buffer.alloc(IFADDRMSG_BYTES);
    header.writeUInt8(familyNumber(family), 0);
    header.writeUInt8(Number(length), 1);
    header.writeUInt32LE(index, 4);
    const bytes = addressBytes(address);
    const data = [header, attribute(IFA_LOCAL, bytes), attribute(IFA_ADDRESS, bytes)];
    // Without duplicate address detection the address can be used at once.
    if (family === 'IPv6') data.push(attributeUint32(IFA_FLAGS, IFA_F_NODAD));
    const flags = NLM_F_CREATE | NLM_F_REPLACE;
    await this.#socket.request({
      action: `add address ${prefix}`,
      type: RTM_NEWADDR,
      flags,
      data: Buffer.concat(data),
    });
  }

  async #setUp(name: string, index: number): Promise<void> {
    const data = Buffer.alloc(IFINFOMSG_BYTES);
    data.writeInt32LE(index, 4);
    data.writeUInt32LE(IFF_UP, 8);
    data.writeUInt32LE(IFF_UP, 12);
    await this.#socket.request({ action: `set link ${name} up`, type: RTM_NEWLINK, data });
  }
}

/** A process cannot enter a network namespace for one socket only, so a child does it. */
async function configurePeer(options: VethOptions): Promise<void> {
  const lines = options.peerAddresses.map((address) => {
    const nodad = addressFamily(address) === 'IPv6' ? ' nodad' : '';
    return `address replace ${address} dev ${options.peer}${nodad}`;
  });
  const { peer, peerGateways = [] } = options;
  const routes = peerGateways.map((gateway) => {
    const all = addressFamily(gateway) === 'IPv6' ? '::/0' : '0.0.0.0/0';
    return `route replace ${all} via ${gateway} dev ${peer}`;
  });
  const input = [...lines, 'link set lo up', `link set ${peer} up`, ...routes, ''].join('\n');
  await exec('nsenter', [`--net=${options.peerNetns}`, 'ip', '-batch', '-'], { input });
}

function parseLink(message: Buffer): Link {
  const found = attributes(message.subarray(IFINFOMSG_BYTES));
  const kind = attributes(found.get(IFLA_LINKINFO) ?? Buffer.alloc(0)).get(IFLA_INFO_KIND);
  const hardware = message.readUInt16LE(2);
  const master = found.get(IFLA_MASTER)?.readUInt32LE(0);
  return {
    index: message.readInt32LE(4),
    name: stringOf(found.get(IFLA_IFNAME) ?? Buffer.alloc(0)),
    type: kind === undefined ? (HARDWARE_TYPES[hardware] ?? `arphrd-${hardware}`) : stringOf(kind),
    up: (message.readUInt32LE(8) & IFF_UP) !== 0,
    mtu: found.get(IFLA_MTU)?.readUInt32LE(0) ?? 0,
    ...(master === undefined ? {} : { masterIndex: master }),
  };
}

function parseAddress(message: Buffer): LinkAddress[] {
  const found = attributes(message.subarray(IFADDRMSG_BYTES));
  // IFA_LOCAL is the own address on point-to-point links too; IPv6 has it only there.
  const bytes = found.get(IFA_LOCAL) ?? found.get(IFA_ADDRESS);
  if (bytes === undefined) return [];
  const flags = found.get(IFA_FLAGS)?.readUInt32LE(0) ?? message.readUInt8(2);
  const scope = SCOPES[message.readUInt8(3)] ?? 'global';
  return [
    {
      linkIndex: message.readUInt32LE(4),
      address: formatAddress(bytes),
      prefixLength: message.readUInt8(1),
      family: familyByNumber(message.readUInt8(0)),
      scope,
      secondary: (flags & IFA_F_SECONDARY) !== 0,
      ...((flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)) !== 0 ? { tentative: true } : {}),
      ...((flags & IFA_F_DEPRECATED) !== 0 ? { deprecated: true } : {}),
    },
  ];
}
