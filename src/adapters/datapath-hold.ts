// SPDX-License-Identifier: Apache-2.0
/** Has tc ingress hold packets back while modules are exchanged: bpf/lib/hold.h. */
import { readFileSync } from 'node:fs';
import { encodeServiceKey, encodeUint32 } from '../core/abi.ts';
import { errnoError, errnoOf, isNotFound } from '../core/errors.ts';
import type { HeldEnd } from '../datapath-ports.ts';
import { translated } from './bpf-errors.ts';
import type { DatapathPins } from './datapath-pins.ts';

const NANOSECONDS = 1_000_000n;
/** What the module's bpf_maps says without any. */
export const NO_MAPS = 'none';

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

/** Sessions that a module has left go first: from here on their connections are native ones. */
export function endHold(pins: DatapathPins, mapsSysctl: string): void {
  if (!isModuleUsingMaps(mapsSysctl)) forgetSessions(pins);
  releasePackets(pins);
}

function isModuleUsingMaps(mapsSysctl: string): boolean {
  try {
    return readFileSync(mapsSysctl, 'utf8').trim() !== NO_MAPS;
  } catch (error) {
    if (isNotFound(error)) return false; // the in-tree module has no such file
    throw errnoError(`read ${mapsSysctl}`, errnoOf(error) ?? 'EIO', error);
  }
}

function forgetSessions(pins: DatapathPins): void {
  for (const name of ['ipvs_replies', 'ipvs_sessions'] as const) {
    using map = pins.openMap(name);
    const raw = map.raw();
    translated(`clear ${name}`, () => {
      for (const batch of raw.batches()) raw.deleteBatch(batch.map(([key]) => key));
    });
  }
}

function releasePackets(pins: DatapathPins): void {
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
