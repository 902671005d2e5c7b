// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import type { SessionEnds } from '../../../src/connection-ports.ts';
import { mappedBytes } from '../../../src/core/abi.ts';
import { decodeSessions } from '../../../src/core/session-abi.ts';

const ADDRESSES = new Map([[3, '10.2.0.1']]);

/** struct ipvs_session_key */
function key(): Uint8Array {
  const bytes = Buffer.alloc(24);
  bytes.set(mappedBytes('192.0.2.7'), 0);
  bytes.writeUInt32LE(5, 16);
  bytes.writeUInt16BE(40_000, 20);
  return bytes;
}

/** struct ipvs_session */
function value({
  addressId,
  protocol = 6,
}: {
  readonly addressId: number;
  readonly protocol?: number;
}): Uint8Array {
  const bytes = Buffer.alloc(128);
  bytes.set(mappedBytes('198.51.100.1'), 0);
  bytes.set(mappedBytes('10.2.0.2'), 16);
  bytes.writeUInt16BE(80, 32);
  bytes.writeUInt16BE(8080, 34);
  bytes.writeUInt8(protocol, 36);
  bytes.writeUInt8(2, 37);
  bytes.writeUInt16BE(20_123, 40);
  bytes.writeUInt16LE(addressId, 42);
  bytes.writeUInt32LE(99, 44);
  return bytes;
}

const ENDS = {
  family: 'IPv4',
  protocol: 'TCP',
  client: { address: '192.0.2.7', port: 40_000 },
  virtual: { address: '198.51.100.1', port: 80 },
  real: { address: '10.2.0.2', port: 8080 },
};

function decode(key: Uint8Array, value: Uint8Array): SessionEnds | undefined {
  return decodeSessions([[key, value]], ADDRESSES)[0];
}

describe('the ends of a session', () => {
  it('are those in key and value, and the SNAT end in its word', () => {
    expect(decode(key(), value({ addressId: 3 }))).toEqual({
      ...ENDS,
      snat: { address: '10.2.0.1', port: 20_123 },
    });
  });

  it('have no SNAT end if the client keeps its address', () => {
    expect(decode(key(), value({ addressId: 0xffff }))).toEqual(ENDS);
  });

  it.each([
    ['before a packet has left', { addressId: 0 }],
    ['with an address that nobody knows', { addressId: 4 }],
    ['of an unknown protocol', { addressId: 3, protocol: 1 }],
  ])('are not there %s', (_, of) => {
    expect(decode(key(), value(of))).toBeUndefined();
  });
});
