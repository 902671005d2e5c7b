// SPDX-License-Identifier: Apache-2.0
/** struct ipvs_session_key and struct ipvs_session of bpf/abi.h. */
import type { End, SessionEnds } from '../connection-ports.ts';
import { familyByNumber, formatMapped, protocolByNumber } from './abi.ts';

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

function endAt(bytes: Uint8Array, address: number, port: number): End {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    address: formatMapped(bytes.subarray(address, address + 16)),
    port: view.getUint16(port, false),
  };
}

/**
 * Undefined while no packet has left yet: there is nothing to be known of it then.
 * @param addresses SNAT addresses by their id
 */
export function decodeSession(
  key: Uint8Array,
  value: Uint8Array,
  addresses: ReadonlyMap<number, string>,
): SessionEnds | undefined {
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  const protocol = protocolByNumber(value[PROTOCOL] ?? 0);
  const id = view.getUint16(SNAT + 2, true);
  const address = addresses.get(id);
  if (protocol === undefined || id === UNDECIDED || (id !== NONE && address === undefined)) return undefined;
  return {
    family: familyByNumber(value[FAMILY] ?? 0),
    protocol,
    client: endAt(key, 0, CLIENT_PORT),
    virtual: endAt(value, 0, VIRTUAL_PORT),
    real: endAt(value, REAL_ADDRESS, REAL_PORT),
    // The low half of the word is the port as it stands in a packet.
    ...(address === undefined ? {} : { snat: { address, port: view.getUint16(SNAT, false) } }),
  };
}
