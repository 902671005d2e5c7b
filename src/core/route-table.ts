// SPDX-License-Identifier: Apache-2.0
/** Which of many routes an address takes. */
import type { Route } from '../ports.ts';
import { addressBytes, addressFamily } from './abi.ts';

/** The route with the longest prefix that holds the address; of several with one prefix the first. IPv4 only. */
export function longestMatch(routes: readonly Route[]): (address: string) => Route | undefined {
  const byBits = new Map<number, Map<number, Route>>();
  for (const route of routes) {
    const [address = '', bits = ''] = route.destination.split('/');
    const length = Number(bits);
    const sameLength = byBits.get(length) ?? new Map<number, Route>();
    const base = masked(numberOf(address), length);
    if (!sameLength.has(base)) sameLength.set(base, route);
    byBits.set(length, sameLength);
  }
  const longestFirst = [...byBits].sort(([a], [b]) => b - a);
  return (address) => {
    if (addressFamily(address) !== 'IPv4') return undefined;
    const number = numberOf(address);
    for (const [bits, sameLength] of longestFirst) {
      const found = sameLength.get(masked(number, bits));
      if (found !== undefined) return found;
    }
    return undefined;
  };
}

function numberOf(address: string): number {
  return addressBytes(address).reduce((number, byte) => number * 256 + byte, 0);
}

/** Shifts by 32 do nothing in JavaScript, so the empty prefix is told apart. */
function masked(number: number, bits: number): number {
  return bits === 0 ? 0 : (number & (0xffffffff << (32 - bits))) >>> 0;
}
