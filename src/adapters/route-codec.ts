// SPDX-License-Identifier: Apache-2.0
/** Routes as rtnetlink tells them. */
import { AF_INET, AF_INET6, familyNumber, formatAddress } from '../core/abi.ts';
import { HostError } from '../core/errors.ts';
import type { AddressFamily, Route } from '../ports.ts';
import { attributes } from './netlink-socket.ts';

// linux/rtnetlink.h
export const RTM_GETROUTE = 26;
const RT_TABLE_MAIN = 254;
const RTN_UNICAST = 1;
const RTNH_F_DEAD = 1;
const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PREFSRC = 7;
const RTA_MULTIPATH = 9;
const RTA_VIA = 18;
const RTMSG_BYTES = 12;
const RTNEXTHOP_BYTES = 8;

/** struct rtmsg: asks for all routes of a family. */
export function routesRequest(family: AddressFamily): Uint8Array {
  const data = new Uint8Array(RTMSG_BYTES);
  data[0] = familyNumber(family);
  return data;
}

/**
 * A route of the main table by which packets are sent, once for each of its next hops; nothing for others. Throws
 * HostError if a length is wrong.
 */
export function parseRoute(message: Buffer): readonly Route[] {
  const isSent = message.readUInt8(4) === RT_TABLE_MAIN && message.readUInt8(7) === RTN_UNICAST;
  const bytes = ADDRESS_BYTES.get(message.readUInt8(0));
  if (bytes === undefined || !isSent || isDead(message.readUInt32LE(8))) return [];
  const found = attributes(message.subarray(RTMSG_BYTES));
  const destination = `${formatAddress(found.get(RTA_DST) ?? new Uint8Array(bytes))}/${message.readUInt8(1)}`;
  const preferred = found.get(RTA_PREFSRC);
  const source = preferred === undefined ? {} : { source: formatAddress(preferred) };
  const several = found.get(RTA_MULTIPATH);
  if (several !== undefined) return nextHops(several).map((hop) => ({ destination, ...hop, ...source }));
  const link = found.get(RTA_OIF);
  if (link === undefined) return [];
  return [{ destination, linkIndex: link.readUInt32LE(0), viaGateway: hasGateway(found), ...source }];
}

/** AF_* → bytes of an address. */
const ADDRESS_BYTES: ReadonlyMap<number, number> = new Map([
  [AF_INET, 4],
  [AF_INET6, 16],
]);

function isDead(flags: number): boolean {
  return (flags & RTNH_F_DEAD) !== 0;
}

function hasGateway(found: ReadonlyMap<number, Buffer>): boolean {
  return found.has(RTA_GATEWAY) || found.has(RTA_VIA);
}

/** struct rtnexthop: u16 length, u8 flags, u8 hops, s32 interface; then attributes. */
function nextHops(data: Buffer): readonly Omit<Route, 'destination'>[] {
  const out: Omit<Route, 'destination'>[] = [];
  for (let at = 0; at + RTNEXTHOP_BYTES <= data.length; ) {
    const length = data.readUInt16LE(at);
    if (length < RTNEXTHOP_BYTES || at + length > data.length) {
      throw new HostError(`next hop of ${length} bytes at ${at} of ${data.length}`, {
        code: 'MalformedReply',
      });
    }
    if (!isDead(data.readUInt8(at + 2))) {
      const viaGateway = hasGateway(attributes(data.subarray(at + RTNEXTHOP_BYTES, at + length)));
      out.push({ linkIndex: data.readInt32LE(at + 4), viaGateway });
    }
    at += (length + 3) & ~3;
  }
  return out;
}
