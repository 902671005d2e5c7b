// SPDX-License-Identifier: Apache-2.0
/** struct ipvs_session_key and struct ipvs_session of bpf/abi.h. */
import type { SessionEnds } from '../connection-ports.ts';
import { familyByNumber, formatMapped, protocolByNumber } from './abi.ts';

/** struct ipvs_addr */
const ADDRESS_BYTES = 16;
/** Offsets in the key. */
const CLIENT_PORT = 20;
/** Offsets in the value. */
const REAL_ADDRESS = 16;
const VIRTUAL_PORT = 32;
const REAL_PORT = 34;
const PROTOCOL = 36;
const FAMILY = 37;
const SNAT = 40;
/** IPVS_SNAT_UNDECIDED and IPVS_SNAT_NONE */
const UNDECIDED = 0;
const NONE = 0xffff;

/**
 * The sessions of the map, by keys and values. Left out are those of which no packet has left yet: there is nothing to be
 * known of them.
 * @param snatAddresses by their id
 */
export function decodeSessions(
  entries: Iterable<readonly [Uint8Array, Uint8Array]>,
  snatAddresses: ReadonlyMap<number, string>,
): readonly SessionEnds[] {
  const addresses = new AddressTexts();
  return [...entries].flatMap(([key, value]) => {
    const session = decode(bufferOf(key), bufferOf(value), snatAddresses, addresses);
    return session ?? [];
  });
}

function decode(
  key: Buffer,
  value: Buffer,
  snatAddresses: ReadonlyMap<number, string>,
  addresses: AddressTexts,
): SessionEnds | undefined {
  const protocol = protocolByNumber(value[PROTOCOL] ?? 0);
  const id = value.readUInt16LE(SNAT + 2);
  const address = snatAddresses.get(id);
  if (protocol === undefined || id === UNDECIDED || (id !== NONE && address === undefined)) return undefined;
  return {
    family: familyByNumber(value[FAMILY] ?? 0),
    protocol,
    client: { address: addresses.at(key, 0), port: key.readUInt16BE(CLIENT_PORT) },
    virtual: { address: addresses.at(value, 0), port: value.readUInt16BE(VIRTUAL_PORT) },
    real: { address: addresses.at(value, REAL_ADDRESS), port: value.readUInt16BE(REAL_PORT) },
    // The low half of the word is the port as it stands in a packet.
    ...(address === undefined ? {} : { snat: { address, port: value.readUInt16BE(SNAT) } }),
  };
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** There are many sessions, and few addresses. */
class AddressTexts {
  readonly #known = new Map<string, string>();

  at(bytes: Buffer, offset: number): string {
    const key = bytes.toString('latin1', offset, offset + ADDRESS_BYTES);
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const text = formatMapped(bytes.subarray(offset, offset + ADDRESS_BYTES));
    this.#known.set(key, text);
    return text;
  }
}
