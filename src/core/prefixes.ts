// SPDX-License-Identifier: Apache-2.0
/** Sets of address prefixes. */
import { addressBytes, addressFamily, canonicalPrefix, formatAddress } from './abi.ts';

interface Prefix {
  readonly family: 'IPv4' | 'IPv6';
  readonly bits: number;
  /** The address as a number. */
  readonly base: bigint;
}

/**
 * The fewest prefixes that hold the same addresses; if there are more than `limit` of them, neighbours are widened
 * into one until there are not, those first that add the fewest addresses. Throws RangeError for what is no prefix.
 */
export function aggregatePrefixes(prefixes: readonly string[], limit: number): readonly string[] {
  let merged = reduce(prefixes.map(parse));
  while (merged.length > Math.max(limit, 2)) merged = reduce(widenClosest(merged));
  return merged.map(format);
}

/** ::ffff:0:0/96: in a map of prefixes of both families, all of IPv4. */
const MAPPED: Prefix = { family: 'IPv6', bits: 96, base: 0xffffn << 32n };

/** Prefixes with the same addresses but for IPv4 ones, which a short IPv6 prefix holds in a map of both families. */
export function withoutMapped(prefix: string): readonly string[] {
  const outer = parse(prefix);
  if (!contains(outer, MAPPED)) return [prefix];
  const others: string[] = [];
  for (let inner = MAPPED; inner.bits > outer.bits; inner = parent(inner)) {
    const sibling = inner.base ^ (1n << BigInt(width(inner) - inner.bits));
    others.push(format({ ...inner, base: sibling }));
  }
  return others;
}

function parse(text: string): Prefix {
  const [address = '', bits = ''] = canonicalPrefix(text).split('/');
  const base = addressBytes(address).reduce((number, byte) => (number << 8n) | BigInt(byte), 0n);
  return { family: addressFamily(address), bits: Number(bits), base };
}

function format({ family, bits, base }: Prefix): string {
  const bytes = new Uint8Array(width({ family }) / 8);
  let rest = base;
  for (let i = bytes.length - 1; i >= 0; i -= 1) {
    bytes[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return `${formatAddress(bytes)}/${bits}`;
}

function width({ family }: Pick<Prefix, 'family'>): number {
  return family === 'IPv4' ? 32 : 128;
}

function compare(a: Prefix, b: Prefix): number {
  if (a.family !== b.family) return a.family < b.family ? -1 : 1;
  if (a.base !== b.base) return a.base < b.base ? -1 : 1;
  return a.bits - b.bits;
}

function contains(outer: Prefix, inner: Prefix): boolean {
  const shift = BigInt(width(outer) - outer.bits);
  return (
    outer.family === inner.family && outer.bits <= inner.bits && outer.base >> shift === inner.base >> shift
  );
}

function parent(prefix: Prefix): Prefix {
  const shift = BigInt(width(prefix) - prefix.bits + 1);
  return { ...prefix, bits: prefix.bits - 1, base: (prefix.base >> shift) << shift };
}

/** Drops what lies in another prefix, and joins two halves, as long as there are any. */
function reduce(prefixes: readonly Prefix[]): Prefix[] {
  const stack: Prefix[] = [];
  for (const prefix of prefixes.toSorted(compare)) {
    const last = stack.at(-1);
    if (last !== undefined && contains(last, prefix)) continue;
    stack.push(prefix);
    for (;;) {
      const [left, right] = stack.slice(-2);
      if (left === undefined || right === undefined) break;
      const siblings = left.bits === right.bits && left.bits > 0 && contains(parent(left), right);
      if (!siblings || left.family !== right.family) break;
      stack.splice(-2, 2, parent(left));
    }
  }
  return stack;
}

function common(a: Prefix, b: Prefix): Prefix | undefined {
  if (a.family !== b.family) return undefined;
  let outer = a;
  while (!contains(outer, b)) outer = parent(outer);
  return outer;
}

function widenClosest(prefixes: readonly Prefix[]): Prefix[] {
  const joined = prefixes.slice(1).flatMap((prefix, i) => {
    const left = prefixes[i];
    const outer = left === undefined ? undefined : common(left, prefix);
    return outer === undefined ? [] : [outer];
  });
  const closest = joined.reduce<Prefix | undefined>(
    (best, prefix) =>
      best === undefined || width(prefix) - prefix.bits < width(best) - best.bits ? prefix : best,
    undefined,
  );
  return closest === undefined ? [...prefixes] : [...prefixes, closest];
}
