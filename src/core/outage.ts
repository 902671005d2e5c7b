// SPDX-License-Identifier: Apache-2.0
/** How long nobody answered, from the numbered packets of a probe. */

export interface Outage {
  /** Longest time between two answers. */
  readonly longestGapMilliseconds: number;
  /** Packets without an answer that were sent before the last one that has an answer. */
  readonly probesLost: number;
}

/** `answeredAtMs`: number of a packet, from 0, → when its answer came. Undefined with fewer than two answers. */
export function outageOf(answeredAtMs: ReadonlyMap<number, number>): Outage | undefined {
  if (answeredAtMs.size < 2) return undefined;
  const times = [...answeredAtMs.values()].sort((a, b) => a - b);
  const gaps = times.slice(1).map((time, index) => time - (times[index] ?? time));
  const last = Math.max(...answeredAtMs.keys());
  return {
    longestGapMilliseconds: Math.round(Math.max(...gaps)),
    probesLost: last + 1 - answeredAtMs.size,
  };
}
