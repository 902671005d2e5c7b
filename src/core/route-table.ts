// SPDX-License-Identifier: Apache-2.0
/** Which of many routes an address takes. */
import type { Route } from '../ports.ts';
import { addressBytes, addressFamily } from './abi.ts';

type Lookup = (address: string) => Route | undefined;

/** The route with the longest prefix that holds the address; of several with one prefix the first. */
export function longestMatch(routes: readonly Route[]): Lookup {
  const isOf = (family: string) => (route: Route) => addressFamily(route.destination) === family;
  const ofIPv4 = matcher(routes.filter(isOf('IPv4')), maskedWord);
  const ofIPv6 = matcher(routes.filter(isOf('IPv6')), maskedText);
  return (address) => (addressFamily(address) === 'IPv4' ? ofIPv4 : ofIPv6)(address);
}

/** `masked`: the first bits of an address as something that a Map finds. */
function matcher<T>(routes: readonly Route[], masked: (bytes: Uint8Array, bits: number) => T): Lookup {
  const byBits = new Map<number, Map<T, Route>>();
  for (const route of routes) {
    const [address = '', bits = ''] = route.destination.split('/');
    const length = Number(bits);
    const sameLength = byBits.get(length) ?? new Map<T, Route>();
    const base = masked(addressBytes(address), length);
    if (!sameLength.has(base)) sameLength.set(base, route);
    byBits.set(length, sameLength);
  }
  const longestFirst = [...byBits].sort(([a], [b]) => b - a);
  return (address) => {
    const bytes = addressBytes(address);
    for (const [bits, sameLength] of longestFirst) {
      const found = sameLength.get(masked(bytes, bits));
      if (found !== undefined) return found;
    }
    return undefined;
  };
}

/** Shifts by 32 do nothing in JavaScript, so the empty prefix is told apart. */
function maskedWord(bytes: Uint8Array, bits: number): number {
  const number = bytes.reduce((all, byte) => all * 256 + byte, 0);
  return bits === 0 ? 0 : (number & (0xffffffff << (32 - bits))) >>> 0;
}

function maskedText(bytes: Uint8Array, bits: number): string {
  const whole = String.fromCharCode(...bytes.subarray(0, bits >> 3));
  const rest = bits & 7;
  return rest === 0 ? whole : whole + String.fromCharCode((bytes[bits >> 3] ?? 0) & (0xff << (8 - rest)));
}
