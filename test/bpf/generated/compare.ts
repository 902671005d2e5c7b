// SPDX-License-Identifier: Apache-2.0
/** One packet through a program and through the model. */
import { encodeSkBuff } from 'libbpf-ts';
import { VERDICT } from '../datapath.ts';
import { egress } from './egress.ts';
import { ingress } from './ingress.ts';
import { type Kernel, type Ran, WRONG_SUM } from './kernel.ts';
import type { Maps } from './maps.ts';
import type { Input, Outcome } from './outcome.ts';

const VERDICTS = { pass: VERDICT.unspec, drop: VERDICT.shot, redirect: VERDICT.redirect } as const;

export interface Compared {
  readonly expected: Outcome;
  readonly ran: Ran | typeof WRONG_SUM;
  /** Each in a line; none: all is as it should be. */
  readonly differences: readonly string[];
}

function contextOf({ frame, cb, ifindex, mark, gsoSize }: Input): Buffer {
  return Buffer.from(encodeSkBuff({ cb, ifindex, mark, gsoSize, wireLen: frame.length }).buffer);
}

const verdictName = (verdict: number) =>
  Object.entries(VERDICTS).find(([, number]) => number === verdict)?.[0] ?? String(verdict);

/** Of bytes that differ, which. */
function difference(what: string, expected: Buffer, actual: Buffer): string[] {
  if (expected.equals(actual)) return [];
  const at = Array.from({ length: Math.max(expected.length, actual.length) }, (_, i) => i).filter(
    (i) => expected[i] !== actual[i],
  );
  const hex = (byte: number | undefined) => byte?.toString(16).padStart(2, '0') ?? '--';
  const bytes = at.slice(0, 24).map((i) => `${i}: ${hex(expected[i])} is ${hex(actual[i])}`);
  return [`${what}: ${bytes.join(', ')}${at.length > 24 ? ', ...' : ''}`];
}

function compare(input: Input, context: Buffer, expected: Outcome, ran: Ran | typeof WRONG_SUM): string[] {
  if (expected.problem !== undefined) return [`choice: ${expected.problem}`];
  // Of a packet that is dropped the bytes, and so the sum, mean nothing.
  if (ran === WRONG_SUM)
    return expected.verdict === 'drop' ? [] : ['checksum: the sum over the packet is not followed'];
  if (ran.verdict !== VERDICTS[expected.verdict])
    return [`verdict: ${expected.verdict} is ${verdictName(ran.verdict)}`];
  if (expected.verdict === 'drop') return [];
  const after = expected.cb === input.cb ? context : contextOf({ ...input, cb: expected.cb });
  return [...difference('frame', expected.frame, ran.frame), ...difference('context', after, ran.context)];
}

/** `complete`: as if the device had summed the packet up. */
export function comparePacket(kernel: Kernel, maps: Maps, input: Input, complete: boolean): Compared {
  const context = contextOf(input);
  const ran = kernel.run(input, context, complete);
  const expected =
    input.hook === 'ingress'
      ? ingress(input, maps)
      : egress(input, maps, (session) => kernel.snatOf(session));
  return { expected, ran, differences: compare(input, context, expected, ran) };
}
