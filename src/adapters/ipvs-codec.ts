// SPDX-License-Identifier: Apache-2.0
/** Attributes of the generic netlink family IPVS (linux/ip_vs.h) from and to the types of ports.ts. */
import {
  AF_INET,
  addressBytes,
  familyByNumber,
  familyNumber,
  formatAddress,
  protocolByNumber,
  protocolNumber,
} from '../core/abi.ts';
import { HostError } from '../core/errors.ts';
import type { AddressFamily, IpvsDaemon, IpvsTimeouts, RealServer, VirtualServer } from '../ports.ts';
import type { VirtualServerTotals } from '../traffic-ports.ts';
import {
  attribute,
  attributeString,
  attributes,
  attributeUint8,
  attributeUint16,
  attributeUint16be,
  attributeUint32,
  nested,
  stringOf,
} from './netlink-socket.ts';

const CMD_ATTR_SERVICE = 1;
const CMD_ATTR_DEST = 2;
const CMD_ATTR_DAEMON = 3;
const CMD_ATTR_TIMEOUT_TCP = 4;
const CMD_ATTR_TIMEOUT_TCP_FIN = 5;
const CMD_ATTR_TIMEOUT_UDP = 6;

const SVC_AF = 1;
const SVC_PROTOCOL = 2;
const SVC_ADDR = 3;
const SVC_PORT = 4;
const SVC_FWMARK = 5;
const SVC_SCHED_NAME = 6;
const SVC_FLAGS = 7;
const SVC_TIMEOUT = 8;
const SVC_NETMASK = 9;
const SVC_PE_NAME = 11;
const SVC_STATS64 = 12;

/** Within SVC_STATS64: 64 bits each. */
const STATS_CONNECTIONS = 1;
const STATS_IN_PACKETS = 2;
const STATS_OUT_PACKETS = 3;
const STATS_IN_BYTES = 4;
const STATS_OUT_BYTES = 5;

const DEST_ADDR = 1;
const DEST_PORT = 2;
const DEST_FWD_METHOD = 3;
const DEST_WEIGHT = 4;
const DEST_U_THRESH = 5;
const DEST_L_THRESH = 6;
const DEST_ADDR_FAMILY = 11;
const DEST_TUN_TYPE = 13;
const DEST_TUN_PORT = 14;
const DEST_TUN_FLAGS = 15;

const DAEMON_STATE = 1;
const DAEMON_MCAST_IFN = 2;
const DAEMON_SYNC_ID = 3;
const DAEMON_STATE_MASTER = 1;
const DAEMON_STATE_BACKUP = 2;

type Attributes = ReadonlyMap<number, Buffer>;

/** union nf_inet_addr: 16 bytes, an IPv4 address in the first four. */
function addressUnion(address: string): Uint8Array {
  const bytes = new Uint8Array(16);
  bytes.set(addressBytes(address), 0);
  return bytes;
}

function addressOf(data: Buffer, family: AddressFamily): string {
  return formatAddress(data.subarray(0, family === 'IPv4' ? 4 : 16));
}

function required(found: Attributes, type: number, what: string): Buffer {
  const data = found.get(type);
  if (data === undefined)
    throw new HostError(`IPVS: ${what} is missing in the reply`, { code: 'MalformedReply' });
  return data;
}

function identity(server: VirtualServer): Uint8Array[] {
  const family = attributeUint16(SVC_AF, familyNumber(server.family));
  if (server.fwmark !== undefined) return [family, attributeUint32(SVC_FWMARK, server.fwmark)];
  if (server.protocol === undefined || server.address === undefined || server.port === undefined) {
    throw new RangeError('a virtual server has a firewall mark, or protocol, address and port');
  }
  return [
    family,
    attributeUint16(SVC_PROTOCOL, protocolNumber(server.protocol)),
    attribute(SVC_ADDR, addressUnion(server.address)),
    attributeUint16be(SVC_PORT, server.port),
  ];
}

/** The mask of an IPv4 server is in network byte order, the prefix length of an IPv6 one is not. */
function netmaskData(server: VirtualServer): Uint8Array {
  const data = Buffer.alloc(4);
  if (server.family === 'IPv4') data.writeUInt32BE(server.netmask >>> 0);
  else data.writeUInt32LE(server.netmask);
  return data;
}

/** What names a virtual server. */
export function encodeIdentity(server: VirtualServer): Uint8Array {
  return nested(CMD_ATTR_SERVICE, identity(server));
}

/** A virtual server with all that IPVS_CMD_NEW_SERVICE and SET_SERVICE want. */
export function encodeVirtualServer(server: VirtualServer): Uint8Array {
  const flags = Buffer.alloc(8);
  flags.writeUInt32LE(server.flags >>> 0, 0);
  flags.writeUInt32LE(0xffffffff, 4);
  return nested(CMD_ATTR_SERVICE, [
    ...identity(server),
    attributeString(SVC_SCHED_NAME, server.scheduler),
    ...(server.persistenceEngine === undefined
      ? []
      : [attributeString(SVC_PE_NAME, server.persistenceEngine)]),
    attribute(SVC_FLAGS, flags),
    attributeUint32(SVC_TIMEOUT, server.timeoutSeconds),
    attribute(SVC_NETMASK, netmaskData(server)),
  ]);
}

/** A real server with all that IPVS_CMD_NEW_DEST and SET_DEST want. */
export function encodeRealServer(server: RealServer): Uint8Array {
  const tunnel: Uint8Array[] = [];
  if (server.tunnelType !== undefined) tunnel.push(attributeUint8(DEST_TUN_TYPE, server.tunnelType));
  if (server.tunnelPort !== undefined) tunnel.push(attributeUint16be(DEST_TUN_PORT, server.tunnelPort));
  if (server.tunnelFlags !== undefined) tunnel.push(attributeUint16(DEST_TUN_FLAGS, server.tunnelFlags));
  return nested(CMD_ATTR_DEST, [
    attribute(DEST_ADDR, addressUnion(server.address)),
    attributeUint16be(DEST_PORT, server.port),
    attributeUint16(DEST_ADDR_FAMILY, familyNumber(server.family)),
    attributeUint32(DEST_FWD_METHOD, server.forwardingMethod),
    attributeUint32(DEST_WEIGHT, server.weight),
    attributeUint32(DEST_U_THRESH, server.upperThreshold),
    attributeUint32(DEST_L_THRESH, server.lowerThreshold),
    ...tunnel,
  ]);
}

export function encodeTimeouts(timeouts: IpvsTimeouts): Uint8Array[] {
  return [
    attributeUint32(CMD_ATTR_TIMEOUT_TCP, timeouts.tcpSeconds),
    attributeUint32(CMD_ATTR_TIMEOUT_TCP_FIN, timeouts.tcpFinSeconds),
    attributeUint32(CMD_ATTR_TIMEOUT_UDP, timeouts.udpSeconds),
  ];
}

function identityOf(found: Attributes, family: AddressFamily): Partial<VirtualServer> {
  const fwmark = found.get(SVC_FWMARK)?.readUInt32LE(0) ?? 0;
  if (fwmark !== 0) return { fwmark };
  const number = required(found, SVC_PROTOCOL, 'protocol').readUInt16LE(0);
  const protocol = protocolByNumber(number);
  if (protocol === undefined) {
    throw new HostError(`IPVS: virtual server with protocol ${number}`, { code: 'MalformedReply' });
  }
  const address = addressOf(required(found, SVC_ADDR, 'address'), family);
  return { protocol, address, port: required(found, SVC_PORT, 'port').readUInt16BE(0) };
}

/** A message of IPVS_CMD_GET_SERVICE; the real servers are a request of their own. */
export function decodeVirtualServer(message: Buffer): VirtualServer {
  const found = attributes(required(attributes(message), CMD_ATTR_SERVICE, 'virtual server'));
  const family = familyByNumber(required(found, SVC_AF, 'address family').readUInt16LE(0));
  const netmask = required(found, SVC_NETMASK, 'netmask');
  const engine = found.get(SVC_PE_NAME);
  return {
    family,
    ...identityOf(found, family),
    scheduler: stringOf(required(found, SVC_SCHED_NAME, 'scheduler')),
    flags: required(found, SVC_FLAGS, 'flags').readUInt32LE(0),
    timeoutSeconds: required(found, SVC_TIMEOUT, 'timeout').readUInt32LE(0),
    netmask: family === 'IPv4' ? netmask.readUInt32BE(0) : netmask.readUInt32LE(0),
    ...(engine === undefined || engine.length === 0 ? {} : { persistenceEngine: stringOf(engine) }),
    realServers: [],
  };
}

/** What the same message says that went through the virtual server since it was made, or since `ipvsadm -Z`. */
export function decodeTotals(message: Buffer): VirtualServerTotals {
  const found = attributes(required(attributes(message), CMD_ATTR_SERVICE, 'virtual server'));
  const stats = attributes(required(found, SVC_STATS64, 'statistics'));
  const total = (type: number): number => Number(required(stats, type, 'statistic').readBigUInt64LE(0));
  return {
    connections: total(STATS_CONNECTIONS),
    inPackets: total(STATS_IN_PACKETS),
    outPackets: total(STATS_OUT_PACKETS),
    inBytes: total(STATS_IN_BYTES),
    outBytes: total(STATS_OUT_BYTES),
  };
}

/** A message of IPVS_CMD_GET_DEST. */
export function decodeRealServer(message: Buffer): RealServer {
  const found = attributes(required(attributes(message), CMD_ATTR_DEST, 'real server'));
  const family = familyByNumber(found.get(DEST_ADDR_FAMILY)?.readUInt16LE(0) ?? AF_INET);
  const number = (type: number, what: string): number => required(found, type, what).readUInt32LE(0);
  const tunnelType = found.get(DEST_TUN_TYPE)?.readUInt8(0);
  const tunnelPort = found.get(DEST_TUN_PORT)?.readUInt16BE(0);
  const tunnelFlags = found.get(DEST_TUN_FLAGS)?.readUInt16LE(0);
  return {
    family,
    address: addressOf(required(found, DEST_ADDR, 'address'), family),
    port: required(found, DEST_PORT, 'port').readUInt16BE(0),
    forwardingMethod: number(DEST_FWD_METHOD, 'forwarding method'),
    weight: required(found, DEST_WEIGHT, 'weight').readInt32LE(0),
    upperThreshold: number(DEST_U_THRESH, 'upper threshold'),
    lowerThreshold: number(DEST_L_THRESH, 'lower threshold'),
    ...(tunnelType === undefined ? {} : { tunnelType }),
    ...(tunnelPort === undefined ? {} : { tunnelPort }),
    ...(tunnelFlags === undefined ? {} : { tunnelFlags }),
  };
}

/** A message of IPVS_CMD_GET_CONFIG. */
export function decodeTimeouts(message: Buffer): IpvsTimeouts {
  const found = attributes(message);
  const seconds = (type: number): number => required(found, type, 'timeout').readUInt32LE(0);
  return {
    tcpSeconds: seconds(CMD_ATTR_TIMEOUT_TCP),
    tcpFinSeconds: seconds(CMD_ATTR_TIMEOUT_TCP_FIN),
    udpSeconds: seconds(CMD_ATTR_TIMEOUT_UDP),
  };
}

/** For IPVS_CMD_NEW_DAEMON and IPVS_CMD_DEL_DAEMON. */
export function encodeDaemon({ state, interface: name, syncId }: IpvsDaemon): Uint8Array {
  return nested(CMD_ATTR_DAEMON, [
    attributeUint32(DAEMON_STATE, state === 'master' ? DAEMON_STATE_MASTER : DAEMON_STATE_BACKUP),
    attributeString(DAEMON_MCAST_IFN, name),
    attributeUint32(DAEMON_SYNC_ID, syncId),
  ]);
}

/** A message of IPVS_CMD_GET_DAEMON. */
export function decodeDaemon(message: Buffer): IpvsDaemon {
  const found = attributes(required(attributes(message), CMD_ATTR_DAEMON, 'daemon'));
  const state = required(found, DAEMON_STATE, 'daemon state').readUInt32LE(0);
  return {
    state: state === DAEMON_STATE_MASTER ? 'master' : 'backup',
    interface: stringOf(required(found, DAEMON_MCAST_IFN, 'daemon interface')),
    syncId: required(found, DAEMON_SYNC_ID, 'daemon id').readUInt32LE(0),
  };
}
