// SPDX-License-Identifier: Apache-2.0
/**
 * Internet checksums (RFC 1071) as plain arithmetic: a sum of 16-bit words modulo 65535. Zero has two
 * representations there; a checksum is 0 where it may be, as whoever computes it anew would write it.
 */

/** Sum of the 16-bit words from `start` to `end`; an odd last byte counts as its high half. Below 2^53. */
export function sumOf(bytes: Buffer, start: number, end: number): number {
  let sum = 0;
  const even = start + ((end - start) & ~1);
  for (let i = start; i < even; i += 2) sum += ((bytes[i] as number) << 8) | (bytes[i + 1] as number);
  return even < end ? sum + ((bytes[even] as number) << 8) : sum;
}

/** The checksum that makes a sum right. */
export function checksumOf(sum: number): number {
  return (65535 - (sum % 65535)) % 65535;
}

/** True if a sum that includes its checksum is that of an intact packet. */
export function isRight(sum: number): boolean {
  return sum % 65535 === 0 && sum > 0;
}

/** A checksum after words with the sum `before` have become words with the sum `after`: as right as it was. */
export function carriedOver(check: number, before: number, after: number): number {
  const moved = (check + before - after) % 65535;
  return (moved + 65535) % 65535;
}
