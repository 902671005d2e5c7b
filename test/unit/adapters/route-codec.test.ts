// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { attribute, attributeUint32 } from '../../../src/adapters/netlink-socket.ts';
import { parseRoute, routesRequest } from '../../../src/adapters/route-codec.ts';
import { addressBytes } from '../../../src/core/abi.ts';

const DST = 1;
const OIF = 4;
const GATEWAY = 5;
const PREFSRC = 7;
const MULTIPATH = 9;
const VIA = 18;
const POD = Uint8Array.of(10, 244, 1, 7);
const ROUTER = Uint8Array.of(192, 0, 2, 1);
const POD6 = addressBytes('fd00::7');
const ROUTER6 = addressBytes('fe80::1');

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
    ['of a third family', { family: 28 }],
  ])('%s is left out', (_, head) => {
    expect(parseRoute(message(head, ...toPod))).toEqual([]);
  });

  it.each<[string, Head, readonly Uint8Array[], object]>([
    [
      'to a pod',
      { length: 128 },
      [attribute(DST, POD6), attributeUint32(OIF, 9)],
      { destination: 'fd00::7/128', linkIndex: 9, viaGateway: false },
    ],
    [
      'without a destination',
      { length: 0 },
      [attribute(GATEWAY, ROUTER6), attributeUint32(OIF, 2)],
      { destination: '::/0', linkIndex: 2, viaGateway: true },
    ],
    [
      'that names the source',
      { length: 128 },
      [attribute(DST, POD6), attributeUint32(OIF, 9), attribute(PREFSRC, ROUTER6)],
      { destination: 'fd00::7/128', linkIndex: 9, viaGateway: false, source: 'fe80::1' },
    ],
    [
      'by a next hop of several',
      { length: 128 },
      [attribute(DST, POD6), attribute(MULTIPATH, nextHop(4, 0, attribute(GATEWAY, ROUTER6)))],
      { destination: 'fd00::7/128', linkIndex: 4, viaGateway: true },
    ],
  ])('of IPv6 %s', (_, head, parts, expected) => {
    expect(parseRoute(message({ family: 10, ...head }, ...parts))).toEqual([expected]);
  });

  it('of IPv4 may name the source, for each of its next hops', () => {
    const hops = attribute(MULTIPATH, Buffer.concat([nextHop(2, 0), nextHop(3, 0)]));
    const parts = [attribute(DST, POD), attribute(PREFSRC, ROUTER), hops];
    expect(parseRoute(message({}, ...parts)).map(({ source }) => source)).toEqual(['192.0.2.1', '192.0.2.1']);
  });

  it('is asked for by family', () => {
    expect([...routesRequest('IPv4')].slice(0, 2)).toEqual([2, 0]);
    expect([...routesRequest('IPv6')].slice(0, 2)).toEqual([10, 0]);
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
