// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeRealServer,
  decodeTotals,
  decodeVirtualServer,
  encodeRealServer,
  encodeVirtualServer,
} from '../../../src/adapters/ipvs-codec.ts';
import { canonicalAddress } from '../../../src/core/abi.ts';
import type { RealServer, VirtualServer } from '../../../src/ports.ts';

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const port = fc.integer({ min: 0, max: 65535 });
const name = fc.stringMatching(/^[a-z]{1,15}$/);
const where = fc.oneof(
  fc.record({ family: fc.constant('IPv4' as const), address: fc.ipV4() }),
  fc.record({ family: fc.constant('IPv6' as const), address: fc.ipV6().map(canonicalAddress) }),
);

const realServer: fc.Arbitrary<RealServer> = fc
  .record({
    forwardingMethod: fc.integer({ min: 0, max: 4 }),
    weight: fc.integer({ min: 0, max: 65535 }),
    upperThreshold: u32,
    lowerThreshold: u32,
    tunnelType: fc.integer({ min: 0, max: 2 }),
    tunnelPort: port,
    tunnelFlags: port,
    port,
  })
  .chain((fields) => where.map((place) => ({ ...fields, ...place })));

const virtualServer: fc.Arbitrary<VirtualServer> = fc
  .record({ scheduler: name, flags: u32, timeoutSeconds: u32, netmask: u32, realServers: fc.constant([]) })
  .chain((fields) =>
    fc.oneof(
      fc
        .record({ place: where, port, protocol: fc.constantFrom('TCP', 'UDP', 'SCTP' as const) })
        .map((id) => ({
          ...fields,
          ...id.place,
          port: id.port,
          protocol: id.protocol,
          persistenceEngine: 'sip',
        })),
      fc
        .record({
          family: fc.constantFrom('IPv4', 'IPv6' as const),
          fwmark: fc.integer({ min: 1, max: 0xffffffff }),
        })
        .map((id) => ({ ...fields, ...id })),
    ),
  );

describe('attributes of the family IPVS', () => {
  it('come back as they were', () => {
    fc.assert(
      fc.property(virtualServer, (server) => {
        expect(decodeVirtualServer(Buffer.from(encodeVirtualServer(server)))).toEqual(server);
      }),
    );
    fc.assert(
      fc.property(realServer, (server) => {
        expect(decodeRealServer(Buffer.from(encodeRealServer(server)))).toEqual(server);
      }),
    );
  });

  it('have the bytes of linux/ip_vs.h', () => {
    const server = {
      family: 'IPv4',
      protocol: 'TCP',
      address: '192.0.2.1',
      port: 80,
      scheduler: 'rr',
      flags: 2,
      timeoutSeconds: 0,
      netmask: 0xffffff00,
      realServers: [],
    } as const;
    expect(Buffer.from(encodeVirtualServer(server)).toString('hex')).toBe(
      [
        '54000180', // nested service
        '0600010002000000', // address family
        '0600020006000000', // protocol
        '14000300c0000201000000000000000000000000', // address
        '0600040000500000', // port
        '0700060072720000', // scheduler
        '0c00070002000000ffffffff', // flags and mask
        '0800080000000000', // timeout
        '08000900ffffff00', // netmask
      ].join(''),
    );
  });

  it('have the totals of a virtual server in 64 bits each', () => {
    const stat = (type: string, value: string) => `0c00${type}00${value}`;
    const stats = [
      stat('01', '0500000000000000'), // connections
      stat('02', '0a00000000000000'), // packets in
      stat('03', '0b00000000000000'), // packets out
      stat('04', '0000000001000000'), // bytes in
      stat('05', '0d00000000000000'), // bytes out
      stat('06', 'ffffffffffffffff'), // connections a second
    ].join('');
    const message = Buffer.from(`50000180${'4c000c80'}${stats}`, 'hex');
    expect(decodeTotals(message)).toEqual({
      connections: 5,
      inPackets: 10,
      outPackets: 11,
      inBytes: 2 ** 32,
      outBytes: 13,
    });
    expect(() => decodeTotals(Buffer.from('04000180', 'hex'))).toThrow('statistics is missing');
  });

  it('are refused if one is missing or cut', () => {
    expect(() => decodeVirtualServer(Buffer.alloc(0))).toThrow('missing');
    expect(() => decodeRealServer(Buffer.from('ffff0180', 'hex'))).toThrow(
      'netlink attribute of 65535 bytes',
    );
  });

  it('need a firewall mark, or protocol, address and port', () => {
    const server = {
      family: 'IPv4',
      scheduler: 'rr',
      flags: 0,
      timeoutSeconds: 0,
      netmask: 0,
      realServers: [],
    } as const;
    expect(() => encodeVirtualServer(server)).toThrow(RangeError);
  });
});
