// SPDX-License-Identifier: Apache-2.0
/** The addresses of all cases: client → virtual server on the director → real server. */
import type { Datapath } from './datapath.ts';
import { type End, frame, packet, type Segment, type Transport } from './packet.ts';

export const client: End = { address: '198.51.100.7', port: 40000 };
export const real: End = { address: '10.0.0.2', port: 8080 };
/** The director's address towards the real server, id 1. */
export const SNAT_ADDRESS = '10.0.0.1';
/** A port of SNAT_ADDRESS that sessions get whose SNAT end is chosen before the case begins. */
export const SNAT_PORT = 20123;
export const snat: End = { address: SNAT_ADDRESS, port: SNAT_PORT };
export const router = '198.51.100.254';

export const transports: readonly Transport[] = ['TCP', 'UDP', 'SCTP'];
/** Without SCTP, whose checksum stays as it is where it is quoted, and which conntrack cannot be asked about. */
export const summedTransports: readonly Transport[] = ['TCP', 'UDP'];
/** "No operation" three times and "end of options": 4 bytes of IP options. */
export const shortOptions = Uint8Array.of(1, 1, 1, 0);
/** The most that a header can have: 40 bytes. */
export const longOptions = new Uint8Array(40).fill(1);

type Extra = Parameters<typeof packet>[2];

export function framed(transport: Transport, segment: Segment, extra?: Extra): Uint8Array {
  return frame(packet(transport, segment, extra));
}

/** Client to real server, as it leaves ip_vs. */
export function request(transport: Transport, extra?: Extra): Uint8Array {
  return framed(transport, { from: client, to: real }, extra);
}

/** The same, with the source that the real server shall see. */
export function translatedRequest(transport: Transport, port: number, extra?: Extra): Uint8Array {
  return framed(transport, { from: { ...snat, port }, to: real }, extra);
}

/** Real server to the SNAT end. */
export function reply(transport: Transport, extra?: Extra): Uint8Array {
  return framed(transport, { from: real, to: snat }, extra);
}

/** The same, with the destination that ip_vs shall see. */
export function translatedReply(transport: Transport, extra?: Extra): Uint8Array {
  return framed(transport, { from: real, to: client }, extra);
}

/** Empty maps, but for the director's address. */
export function prepare(datapath: Datapath): void {
  datapath.reset();
  datapath.addSnatAddress(1, SNAT_ADDRESS);
}
