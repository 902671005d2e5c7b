// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { attribute, attributeUint32 } from '../../../src/adapters/netlink-socket.ts';
import { parseRoute } from '../../../src/adapters/route-codec.ts';

const DST = 1;
const OIF = 4;
const GATEWAY = 5;
const MULTIPATH = 9;
const VIA = 18;
const POD = Uint8Array.of(10, 244, 1, 7);
const ROUTER = Uint8Array.of(192, 0, 2, 1);

interface Head {
  readonly family?: number;
  readonly length?: number;
  readonly table?: number;
  readonly type?: number;
  readonly flags?: number;
}

/** struct rtmsg with attributes. */
function message(head: Head, ...parts: readonly Uint8Array[]): Buffer {
  const { family = 2, length = 32, table = 254, type = 1, flags = 0 } = head;
  const out = Buffer.from([family, length, 0, 0, table, 2, 0, type, 0, 0, 0, 0]);
  out.writeUInt32LE(flags, 8);
  return Buffer.concat([out, ...parts]);
}

function nextHop(link: number, flags: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const head = Buffer.alloc(8);
  head.writeUInt16LE(8 + parts.reduce((sum, part) => sum + part.length, 0), 0);
  head.writeUInt8(flags, 2);
  head.writeInt32LE(link, 4);
  return Buffer.concat([head, ...parts]);
}

const toPod = [attribute(DST, POD), attributeUint32(OIF, 9)];

describe('a route', () => {
  it('to a pod is on the link', () => {
    expect(parseRoute(message({}, ...toPod))).toEqual([
      { destination: '10.244.1.7/32', linkIndex: 9, viaGateway: false },
    ]);
  });

  it('without a destination is the default route', () => {
    const parts = [attribute(GATEWAY, ROUTER), attributeUint32(OIF, 2)];
    expect(parseRoute(message({ length: 0 }, ...parts))).toEqual([
      { destination: '0.0.0.0/0', linkIndex: 2, viaGateway: true },
    ]);
  });

  it('by an IPv6 gateway goes by a gateway', () => {
    expect(parseRoute(message({}, ...toPod, attribute(VIA, new Uint8Array(18))))).toMatchObject([
      { viaGateway: true },
    ]);
  });

  it('with several next hops is told once for each that lives', () => {
    const hops = [nextHop(2, 0, attribute(GATEWAY, ROUTER)), nextHop(3, 1), nextHop(4, 0)];
    expect(parseRoute(message({}, attribute(DST, POD), attribute(MULTIPATH, Buffer.concat(hops))))).toEqual([
      { destination: '10.244.1.7/32', linkIndex: 2, viaGateway: true },
      { destination: '10.244.1.7/32', linkIndex: 4, viaGateway: false },
    ]);
  });

  it.each<[string, Head]>([
    ['of another table', { table: 255 }],
    ['that drops', { type: 6 }],
    ['that is dead', { flags: 1 }],
    ['of IPv6', { family: 10 }],
  ])('%s is left out', (_, head) => {
    expect(parseRoute(message(head, ...toPod))).toEqual([]);
  });

  it('without an interface is left out', () => {
    expect(parseRoute(message({}, attribute(DST, POD)))).toEqual([]);
  });

  it('with a next hop of a wrong length is an error', () => {
    const hop = nextHop(2, 0);
    hop.set([200, 0]);
    expect(() => parseRoute(message({}, attribute(MULTIPATH, hop)))).toThrow('next hop of 200 bytes');
  });
});
