// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import {
  listingKey,
  parseConnectionCounts,
  parseListing,
  withoutConnections,
} from '../../../src/adapters/ipvs-listing.ts';

const lines = (connections: string) => `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A600001:0050 rr  persistent 10800 FFFFFFFF
  -> 0AF40107:1F90      Masq    1      ${connections}
  -> 0AF40207:1F90      Masq    0      0          0
UDP  0A60000A:0035 rr
FWM  00000007 wrr
  -> 0AF40107:0050      Masq    5      0          0
TCP  [2001:0db8:0000:0000:0000:0000:0000:0010]:0050 rr
  -> [fd00:0010:0000:0000:0000:0000:0000:00ab]:1F90      Masq    1      ${connections}
`;

const server = {
  family: 'IPv4',
  scheduler: 'rr',
  flags: 2,
  timeoutSeconds: 0,
  netmask: 0xffffffff,
  realServers: [],
} as const;

const six = { ...server, family: 'IPv6', protocol: 'TCP', address: '2001:db8::10', port: 80 } as const;

describe('a listing of virtual servers', () => {
  it('does not change with connections', () => {
    expect(withoutConnections(lines('3          12'))).toEqual(withoutConnections(lines('0          0')));
  });

  it('has all else of a virtual server under the key of the server', () => {
    const listing = parseListing(withoutConnections(lines('3          12')));
    const key = listingKey({ ...server, protocol: 'TCP', address: '10.96.0.1', port: 80 });
    expect(listing.get(key ?? '')).toBe(
      'TCP  0A600001:0050 rr  persistent 10800 FFFFFFFF\n  -> 0AF40107:1F90      Masq    1\n  -> 0AF40207:1F90      Masq    0',
    );
    expect(
      listing.has(listingKey({ ...server, protocol: 'UDP', address: '10.96.0.10', port: 53 }) ?? ''),
    ).toBe(true);
  });

  it('has IPv6 ones too', () => {
    expect(parseListing(withoutConnections(lines('3          12'))).get(listingKey(six) ?? '')).toBe(
      'TCP  [2001:0db8:0000:0000:0000:0000:0000:0010]:0050 rr\n' +
        '  -> [fd00:0010:0000:0000:0000:0000:0000:00ab]:1F90      Masq    1',
    );
  });

  it('says nothing of firewall marks, which are read each time', () => {
    expect(listingKey({ ...server, fwmark: 7 })).toBeUndefined();
    expect([...parseListing(lines('0          0')).keys()].some((key) => key.startsWith('FWM'))).toBe(false);
  });
});

describe('the connections in a listing', () => {
  it('are those of all real servers, active or not', () => {
    const counts = parseConnectionCounts(lines('3          12'));
    expect(Object.fromEntries(counts)).toEqual({
      'TCP 0A600001:0050': 15,
      'UDP 0A60000A:0035': 0,
      'TCP [2001:0db8:0000:0000:0000:0000:0000:0010]:0050': 15,
    });
    const key = listingKey({ ...server, protocol: 'TCP', address: '10.96.0.1', port: 80 });
    expect(counts.get(key ?? '')).toBe(15);
    expect(counts.get(listingKey(six) ?? '')).toBe(15);
  });
});
