// SPDX-License-Identifier: Apache-2.0
/**
 * /proc/net/ip_vs as fingerprints of virtual servers. With many of them it takes a request each to read their real
 * servers by netlink; this text, which is one read, tells which of them have changed.
 */
import { readFile } from 'node:fs/promises';
import { addressBytes } from '../core/abi.ts';
import { errnoError, errnoOf, isNotFound } from '../core/errors.ts';
import type { VirtualServer } from '../ports.ts';

/** Key of listingKey() → everything that the text says of it but for its connections. */
export type IpvsListing = ReadonlyMap<string, string>;

/** Without its connections. Without the file, as without the module, there is nothing in it. */
export async function readListing(path = '/proc/net/ip_vs'): Promise<string> {
  try {
    return withoutConnections(await readFile(path, 'latin1'));
  } catch (error) {
    if (isNotFound(error)) return '';
    throw errnoError(`read ${path}`, errnoOf(error) ?? 'EIO', error);
  }
}

/** Of "  -> ADDRESS:PORT Forward Weight ActiveConn InActConn" the last two change all the time. */
export function withoutConnections(text: string): string {
  return text.replace(/^( {2}->.*?) +\d+ +\d+ *$/gm, '$1');
}

/** Key of listingKey() → connections of its real servers, ActiveConn and InActConn together. */
export async function readConnectionCounts(path = '/proc/net/ip_vs'): Promise<ReadonlyMap<string, number>> {
  try {
    return parseConnectionCounts(await readFile(path, 'latin1'));
  } catch (error) {
    if (isNotFound(error)) return new Map();
    throw errnoError(`read ${path}`, errnoOf(error) ?? 'EIO', error);
  }
}

export function parseConnectionCounts(text: string): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  let key: string | undefined;
  for (const line of text.split('\n')) {
    if (!line.startsWith('  ->')) {
      key = keyOfLine(line);
      if (key !== undefined) counts.set(key, 0);
    } else if (key !== undefined) {
      const [active = '', inactive = ''] = line.trim().split(/\s+/).slice(-2);
      counts.set(key, (counts.get(key) ?? 0) + Number(active) + Number(inactive));
    }
  }
  return counts;
}

function keyOfLine(line: string): string | undefined {
  const [protocol, address] = /^(TCP|UDP|SCTP) +(\S+) /.exec(line)?.slice(1) ?? [];
  return protocol === undefined ? undefined : `${protocol} ${address}`;
}

/** Of a text without connections: the lines of ip_vs_info_seq_show (net/netfilter/ipvs/ip_vs_ctl.c). */
export function parseListing(text: string): IpvsListing {
  const listing = new Map<string, string>();
  let key: string | undefined;
  for (const line of text.split('\n')) {
    if (line.startsWith('  ->')) {
      if (key === undefined) continue;
      listing.set(key, `${listing.get(key)}\n${line}`);
      continue;
    }
    key = keyOfLine(line);
    if (key !== undefined) listing.set(key, line.trim());
  }
  return listing;
}

/** Undefined for a firewall mark, whose lines do not tell IPv4 from IPv6. */
export function listingKey({ protocol, address, port, family }: VirtualServer): string | undefined {
  if (protocol === undefined || address === undefined || port === undefined) return undefined;
  const digits = Buffer.from(addressBytes(address)).toString('hex');
  // %08X of printk, and %pI6, which has small letters
  const text = family === 'IPv4' ? digits.toUpperCase() : `[${digits.match(/.{4}/g)?.join(':')}]`;
  return `${protocol} ${text}:${port.toString(16).toUpperCase().padStart(4, '0')}`;
}
