// SPDX-License-Identifier: Apache-2.0
import { LITTLE_ENDIAN, viewOf } from './codec.ts';

/** Size of struct __sk_buff. */
const SIZE = 192;
const OFFSETS = {
  len: 0,
  pktType: 4,
  mark: 8,
  queueMapping: 12,
  protocol: 16,
  vlanPresent: 20,
  vlanTci: 24,
  vlanProto: 28,
  priority: 32,
  ingressIfindex: 36,
  ifindex: 40,
  tcIndex: 44,
  hash: 68,
  tcClassid: 72,
  wireLen: 160,
  gsoSegs: 164,
  gsoSize: 176,
} as const;
const FIELDS = Object.entries(OFFSETS) as [keyof typeof OFFSETS, number][];
const CB = 48;
const TSTAMP = 152;
const HWTSTAMP = 184;

/**
 * The fields of struct __sk_buff, host byte order (`protocol` and `vlanProto` as the kernel has
 * them, in network byte order). BPF_PROG_RUN takes mark, priority, ingressIfindex, ifindex, cb,
 * tstamp, wireLen, gsoSegs, gsoSize and hwtstamp; it rejects others that are not zero (EINVAL).
 */
export type SkBuff = { readonly [Name in keyof typeof OFFSETS]: number } & {
  /** Five words. */
  readonly cb: readonly number[];
  /** Nanoseconds. */
  readonly tstamp: bigint;
  readonly hwtstamp: bigint;
};

/** A context for BpfProgram.run; fields that are not given are zero. */
export function encodeSkBuff(fields: Partial<SkBuff>): Uint8Array {
  const bytes = new Uint8Array(SIZE);
  const view = viewOf(bytes);
  for (const [name, offset] of FIELDS) {
    const value = fields[name];
    if (value !== undefined) view.setUint32(offset, value, LITTLE_ENDIAN);
  }
  const cb = fields.cb ?? [];
  if (cb.length > 5) throw new RangeError('cb has five words');
  for (const [index, word] of cb.entries()) view.setUint32(CB + 4 * index, word, LITTLE_ENDIAN);
  view.setBigUint64(TSTAMP, fields.tstamp ?? 0n, LITTLE_ENDIAN);
  view.setBigUint64(HWTSTAMP, fields.hwtstamp ?? 0n, LITTLE_ENDIAN);
  return bytes;
}

/** The context that BpfProgram.run returned. */
export function decodeSkBuff(bytes: Uint8Array): SkBuff {
  if (bytes.length !== SIZE) throw new RangeError(`expected ${SIZE} bytes, got ${bytes.length}`);
  const view = viewOf(bytes);
  const words = FIELDS.map(([name, offset]) => [name, view.getUint32(offset, LITTLE_ENDIAN)]);
  return {
    ...(Object.fromEntries(words) as { [Name in keyof typeof OFFSETS]: number }),
    cb: Array.from({ length: 5 }, (_, index) => view.getUint32(CB + 4 * index, LITTLE_ENDIAN)),
    tstamp: view.getBigUint64(TSTAMP, LITTLE_ENDIAN),
    hwtstamp: view.getBigUint64(HWTSTAMP, LITTLE_ENDIAN),
  };
}
