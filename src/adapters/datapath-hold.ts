// SPDX-License-Identifier: Apache-2.0
/** Has tc ingress hold packets back while modules are exchanged: bpf/lib/hold.h. */
import { encodeServiceKey, encodeUint32 } from '../core/abi.ts';
import type { HeldEnd } from '../datapath-ports.ts';
import { translated } from './bpf-errors.ts';
import type { DatapathPins } from './datapath-pins.ts';

const NANOSECONDS = 1_000_000n;

/** The time comes last: until then nothing is held. */
export function holdPackets(pins: DatapathPins, ends: readonly HeldEnd[], milliseconds: number): void {
  releasePackets(pins);
  using held = pins.openMap('ipvs_held');
  const map = held.raw();
  translated('write ipvs_held', () => {
    for (const end of ends) map.put(encodeServiceKey(end), encodeUint32(1));
  });
  // This clock is CLOCK_MONOTONIC, as bpf_ktime_get_ns() is.
  writeUntil(pins, process.hrtime.bigint() + BigInt(milliseconds) * NANOSECONDS);
}

export function releasePackets(pins: DatapathPins): void {
  writeUntil(pins, 0n);
  using held = pins.openMap('ipvs_held');
  const map = held.raw();
  translated('clear ipvs_held', () => {
    for (const key of [...map.keys()]) map.delete(key);
  });
}

function writeUntil(pins: DatapathPins, until: bigint): void {
  const value = new Uint8Array(8);
  new DataView(value.buffer).setBigUint64(0, until, true);
  using hold = pins.openMap('ipvs_hold');
  translated('write ipvs_hold', () => hold.raw().put(encodeUint32(0), value));
}
