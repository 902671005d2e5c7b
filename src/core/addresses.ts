// SPDX-License-Identifier: Apache-2.0
/** What kind an address is, and how it is written with a port. */
import { addressBytes, addressFamily, canonicalAddress, formatMapped } from './abi.ts';

/** True for an IPv6 link-local address: it means something only together with an interface. Throws RangeError. */
export function isLinkLocal(address: string): boolean {
  if (addressFamily(address) === 'IPv4') return false;
  const [first = 0, second = 0] = addressBytes(address);
  return first === 0xfe && (second & 0xc0) === 0x80;
}

/**
 * True for an IPv6 address that holds an IPv4 one (RFC 4291, section 2.5.5.2): in maps and programs it is that IPv4
 * address. Throws RangeError.
 */
export function isMapped(address: string): boolean {
  return addressFamily(address) === 'IPv6' && addressFamily(unmapped(address)) === 'IPv4';
}

/** In canonical form; an IPv4-mapped one as the IPv4 address that it holds. Throws RangeError. */
export function unmapped(address: string): string {
  return addressFamily(address) === 'IPv4' ? canonicalAddress(address) : formatMapped(addressBytes(address));
}

/** "192.0.2.1:80", "[2001:db8::1]:80" */
export function endText(address: string, port: number | string): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
