// SPDX-License-Identifier: Apache-2.0
/**
 * A process of the race in ports.test.ts: runs the program behind descriptor 3 on one packet after
 * another, at the times that the other process runs it too.
 */
import { BpfProgram, encodeSkBuff } from 'libbpf-ts';
import { HINT_MAGIC, REROUTED } from './datapath.ts';

/** To the process, when it has said that it is ready. */
export interface Start {
  /** Of the clock that all processes share, nanoseconds; in decimal. */
  readonly at: string;
  readonly intervalNs: number;
  /** In hexadecimal. */
  readonly frames: readonly string[];
}

/** From the process: of each packet the verdict, and what became of it in hexadecimal. */
export type Finish = readonly { readonly verdict: number; readonly frame: string }[];

function run({ at, intervalNs, frames }: Start): Finish {
  const program = new BpfProgram(3, { owned: false });
  const context = encodeSkBuff({ cb: [0, 0, 0, REROUTED, (HINT_MAGIC | 1) >>> 0] });
  return frames.map((text, i) => {
    const data = Buffer.from(text, 'hex');
    const due = BigInt(at) + BigInt(i * intervalNs);
    // Spinning: a process that sleeps would not start at the same time as the other.
    while (process.hrtime.bigint() < due);
    const { retval, data: sent } = program.run({ data, context });
    return { verdict: retval, frame: Buffer.from(sent).toString('hex') };
  });
}

process.once('message', (start: Start) => {
  process.send?.(run(start), () => process.disconnect());
});
process.send?.('ready');
