// SPDX-License-Identifier: Apache-2.0
/** What a program is given, and what becomes of it. */
import type { Counter } from '../datapath.ts';
import type { Change, Family, SnatEnd } from './maps.ts';
import { ETHERNET, ETHERTYPE } from './packet.ts';

export type Hook = 'ingress' | 'egress';

/** A packet as a program gets it. */
export interface Input {
  readonly hook: Hook;
  /** From the Ethernet header on. */
  readonly frame: Buffer;
  /** The control block: five words. */
  readonly cb: readonly number[];
  readonly ifindex: number;
  /** 6 bytes in hexadecimal digits: the address of that device. */
  readonly mac: string;
  readonly mark: number;
  /** Bytes of payload in each packet that this one is cut into; 0: it is one already. */
  readonly gsoSize: number;
}

export type Verdict = 'pass' | 'drop' | 'redirect';

export interface Outcome {
  readonly verdict: Verdict;
  /** The counter that goes up by one, if one does. */
  readonly counter: Counter | undefined;
  /** As they are afterwards; of a packet that is dropped they mean nothing. */
  readonly frame: Buffer;
  readonly cb: readonly number[];
  readonly changes: readonly Change[];
  /** What is wrong with a choice that is the program's to make. */
  readonly problem?: string;
}

/** The SNAT end that the program has chosen for a session: an address id of UNDECIDED if it has refused to. */
export type Chosen = () => SnatEnd;

export function untouched({ frame, cb }: Input, changes: readonly Change[] = []): Outcome {
  return { verdict: 'pass', counter: undefined, frame, cb, changes };
}

export function dropped({ frame, cb }: Input, counter: Counter, changes: readonly Change[] = []): Outcome {
  return { verdict: 'drop', counter, frame, cb, changes };
}

/** The family that the EtherType names. */
export function familyOf({ frame }: Input): Family | undefined {
  const type = frame.readUInt16BE(12);
  if (type === ETHERTYPE.ipv4) return 4;
  return type === ETHERTYPE.ipv6 ? 6 : undefined;
}

/** Of a frame with another EtherType (a tag in line), its first byte tells; IPv4 if there is none. */
export function familyByContent(input: Input): Family {
  const named = familyOf(input);
  if (named !== undefined) return named;
  return input.frame.length > ETHERNET && input.frame.readUInt8(ETHERNET) >> 4 === 6 ? 6 : 4;
}

/** For whom the frame is, by its first 6 bytes. */
export function addressee({ frame, mac }: Input): 'this host' | 'many' | 'another host' {
  if (frame.toString('hex', 0, 6) === mac) return 'this host';
  return frame.readUInt8(0) & 1 ? 'many' : 'another host';
}
