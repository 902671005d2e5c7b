// SPDX-License-Identifier: Apache-2.0
/** CRC32c (Castagnoli) as SCTP has it (RFC 9260, appendix A), bit by bit but for a table of bytes. */

const POLYNOMIAL = 0x82f63b78;

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? POLYNOMIAL : 0);
  return crc;
});

export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ (TABLE[(crc ^ byte) & 0xff] as number);
  return ~crc >>> 0;
}

/** Where the checksum stands in an SCTP packet. */
export const SCTP_CHECK_AT = 8;

/** The checksum that an SCTP packet should have, as it stands there. */
export function sctpChecksum(packet: Uint8Array): Uint8Array {
  const without = Uint8Array.from(packet);
  without.fill(0, SCTP_CHECK_AT, SCTP_CHECK_AT + 4);
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, crc32c(without), true);
  return bytes;
}

export function withSctpChecksum(packet: Uint8Array): Uint8Array {
  const sealed = Uint8Array.from(packet);
  sealed.set(sctpChecksum(packet), SCTP_CHECK_AT);
  return sealed;
}

export function isSctpChecksumRight(packet: Uint8Array): boolean {
  return sctpChecksum(packet).every((byte, i) => byte === packet[SCTP_CHECK_AT + i]);
}
