// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import type { SessionEnds } from '../../../src/connection-ports.ts';
import {
  addressInLine,
  connectionKey,
  isOurDaemon,
  RESTORE_DAEMON,
  syncMessages,
  virtualOf,
  withStates,
} from '../../../src/core/ipvs-sync.ts';

const ID = 7;
const IPV4 = 'TCP 0A010002 AF7C 0A090001 0050 0A020002 1F90 ESTABLISHED     899';
const IPV6 =
  'UDP fd00:0001:0000:0000:0000:0000:0000:0010 8235 fd00:0009:0000:0000:0000:0000:0000:0001 0035 ' +
  'fd00:0002:0001:0000:0000:0000:0000:0010 14B4 UDP             299';

function hex(bytes: Uint8Array | undefined): string {
  return Buffer.from(bytes ?? []).toString('hex');
}

/** What is behind the head of the only message. */
function connection(line: string): string {
  const [message, ...rest] = syncMessages([line], ID);
  expect(rest).toEqual([]);
  return hex(message?.subarray(8));
}

describe('a message with connections', () => {
  it('has a head with id, length, count and version, and the connection as the kernel takes it', () => {
    expect(hex(syncMessages([IPV4], ID)[0])).toBe(
      [
        ['00', '07', '002c', '01', '01', '0000'],
        ['00', '06', '0024', '00000000', '0001', 'af7c', '0050', '1f90', '00000000', '00000383'],
        ['0a010002', '0a090001', '0a020002'],
      ]
        .flat()
        .join(''),
    );
  });

  it('has those of IPv6 in a longer form', () => {
    expect(connection(IPV6)).toBe(
      [
        ['01', '11', '0048', '00000000', '0000', '8235', '0035', '14b4', '00000000', '0000012b'],
        ['fd000001000000000000000000000010', 'fd000009000000000000000000000001'],
        ['fd000002000100000000000000000010'],
      ]
        .flat()
        .join(''),
    );
  });

  it.each([
    ['TCP', 'TIME_WAIT', 5],
    ['TCP', 'SYNACK', 10],
    ['SCTP', 'C-ECHOED', 7],
    ['SCTP', 'CLOSED', 13],
  ])('counts %s %s as inactive, in its state', (protocol, state, number) => {
    const line = IPV4.replace('TCP', protocol).replace('ESTABLISHED', state);
    const text = connection(line);
    expect(text.slice(8, 16)).toBe('00000100');
    expect(Number.parseInt(text.slice(16, 20), 16)).toBe(number);
  });

  it('has persistence templates, by their client without a port', () => {
    const text = connection('TCP 0A010002 0000 0A090001 0050 0A020002 1F90 ASSURED         600');
    expect(text.slice(8, 20)).toBe('000010000001');
  });

  it('gives a connection that is about to end ten seconds', () => {
    expect(connection(IPV4.replace('899', '0')).slice(40, 48)).toBe('0000000a');
  });

  it.each([
    ['an unknown protocol', IPV4.replace('TCP', 'ESP')],
    ['an unknown state', IPV4.replace('ESTABLISHED', 'BUG!')],
    ['ends of two families', IPV4.replace('0A020002', 'fd00:0002:0001:0000:0000:0000:0000:0010')],
    ['what a persistence engine keeps', `${IPV4} sip call-1`],
    ['an empty line', ''],
  ])('leaves %s out', (_, line) => {
    expect(syncMessages([line], ID)).toEqual([]);
  });

  it('fits a frame, however many there are', () => {
    const lines = Array.from({ length: 100 }, () => IPV6);
    const messages = syncMessages(lines, ID);
    expect(Math.max(...messages.map(({ length }) => length))).toBeLessThanOrEqual(1472);
    expect(messages.reduce((sum, message) => sum + (message[4] ?? 0), 0)).toBe(100);
  });
});

describe('a connection', () => {
  it('is the same in another state, with another timeout', () => {
    expect(connectionKey(IPV4)).toBe(
      connectionKey(IPV4.replace('ESTABLISHED     899', 'FIN_WAIT        119')),
    );
    expect(connectionKey(IPV4)).not.toBe(connectionKey(IPV4.replace('AF7C', 'AF7D')));
  });
});

describe('the virtual address of a line', () => {
  it('is that in its fourth word, in the form that this program has', () => {
    expect(virtualOf(IPV4)).toBe(addressInLine('10.9.0.1'));
    expect(virtualOf(IPV6)).toBe(addressInLine('fd00:9::1'));
    expect(virtualOf('')).toBeUndefined();
  });
});

describe('sessions with the states of their connections', () => {
  const session = (client: string, virtual: string, real: string): SessionEnds => ({
    family: client.includes(':') ? 'IPv6' : 'IPv4',
    protocol: 'TCP',
    client: { address: client, port: 40_000 },
    virtual: { address: virtual, port: 80 },
    real: { address: real, port: 8080 },
  });
  const ipv4 = session('203.0.113.7', '192.0.2.1', '198.51.100.2');
  const ipv6 = session('2001:db8::7', '2001:db8::1', '2001:db8:1::2');

  it.each([
    [ipv4, 'TCP CB007107 9C40 C0000201 0050 C6336402 1F90 TIME_WAIT       100', 'TIME_WAIT'],
    [ipv4, 'TCP CB007107 9C40 C0000201 0050 C6336402 1F90 ESTABLISHED     600', 'ESTABLISHED'],
    [ipv4, 'TCP CB007107 9C41 C0000201 0050 C6336402 1F90 TIME_WAIT       100', 'ESTABLISHED'],
    [ipv4, 'UDP CB007107 9C40 C0000201 0050 C6336402 1F90 UDP             100', 'ESTABLISHED'],
    [
      ipv6,
      'TCP 2001:0db8:0000:0000:0000:0000:0000:0007 9C40 2001:0db8:0000:0000:0000:0000:0000:0001 0050 ' +
        '2001:0db8:0001:0000:0000:0000:0000:0002 1F90 CLOSE_WAIT       50',
      'CLOSE_WAIT',
    ],
  ])('takes them from the lines', (ends, line, state) => {
    expect(withStates([ends], [line])).toEqual([{ ...ends, state }]);
  });

  it('has no state for datagrams but one', () => {
    const datagrams: SessionEnds = { ...ipv4, protocol: 'UDP' };
    expect(withStates([datagrams], [])).toEqual([{ ...datagrams, state: 'UDP' }]);
  });
});

describe('the daemon of a restore', () => {
  it('is told from others', () => {
    expect(isOurDaemon({ ...RESTORE_DAEMON })).toBe(true);
    expect(isOurDaemon({ ...RESTORE_DAEMON, interface: 'eth0' })).toBe(false);
    expect(isOurDaemon({ ...RESTORE_DAEMON, syncId: 1 })).toBe(false);
    expect(isOurDaemon({ ...RESTORE_DAEMON, state: 'master' })).toBe(false);
  });
});
