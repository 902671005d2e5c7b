// SPDX-License-Identifier: Apache-2.0
import { LITTLE_ENDIAN, viewOf } from './codec.ts';
import { check, EINVAL, ENOENT, ENOSPC, ENOTSUPP, EOPNOTSUPP } from './errors.ts';
import { libbpf } from './native.ts';

const EINTR = 4;

/** `any`: add or replace; `noexist`: only add; `exist`: only replace. */
export type PutMode = 'any' | 'noexist' | 'exist';
export const PUT_FLAGS: Readonly<Record<PutMode, number>> = { any: 0, noexist: 1, exist: 2 };

/** The map that a batch runs on. Sizes in bytes, values as user space sees them. */
export interface BatchTarget {
  readonly fd: number;
  readonly name: string;
  readonly keySize: number;
  readonly valueSize: number;
}

/** `count` keys and values one after another. */
export interface RawBatch {
  readonly count: number;
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
}

type BatchRead = 'bpf_map_lookup_batch' | 'bpf_map_lookup_and_delete_batch';

/**
 * Reads the whole map in batches of about `size`. The arrays are used again for the next batch.
 * Ends at once with 'unsupported' where this kind of map has no batch operations.
 */
export function* readBatches(
  target: BatchTarget,
  operation: BatchRead,
  size: number,
): Generator<RawBatch, 'done' | 'unsupported'> {
  let capacity = size;
  let room = allocate(target, capacity);
  let position: Uint8Array | null = null;
  // The kernel keeps its position in 4 bytes (hash maps) or in a key.
  const next = new Uint8Array(Math.max(target.keySize, 8));
  for (;;) {
    const count = Uint32Array.of(capacity);
    const { keys, values } = room;
    const native = libbpf();
    const code = native[operation](target.fd, position, next, keys, values, count, null);
    if (code === -ENOSPC) {
      // One bucket of the hash table holds more than the room for a batch.
      capacity *= 2;
      room = allocate(target, capacity);
      continue;
    }
    if (position === null && isUnsupported(code)) return 'unsupported';
    // EINTR: the element at the position was deleted too often meanwhile; what is there counts.
    if (code !== -ENOENT && code !== -EINTR) check(operation, code, target.name);
    const [read = 0] = count;
    if (read > 0) yield { count: read, keys, values };
    if (code === -ENOENT) return 'done';
    if (code === -EINTR && read === 0) continue; // it wrote no new position
    position = next;
  }
}

/** Writes elements; false, with nothing written, where batches (or the mode in a batch) are not supported. */
export function updateBatch(target: BatchTarget, batch: RawBatch, mode: PutMode): boolean {
  if (batch.count === 0) return true;
  const count = Uint32Array.of(batch.count);
  const options = new Uint8Array(24);
  viewOf(options).setBigUint64(0, 24n, LITTLE_ENDIAN);
  viewOf(options).setBigUint64(8, BigInt(PUT_FLAGS[mode]), LITTLE_ENDIAN);
  const native = libbpf();
  const { keys, values } = batch;
  const code = native.bpf_map_update_batch(target.fd, keys, values, count, options);
  if (isUnsupported(code) && count[0] === batch.count) return false;
  check('bpf_map_update_batch', code, `${target.name}, after ${count[0]} of ${batch.count}`);
  return true;
}

/** Deletes elements and returns how many there were, or undefined where batches are not supported. */
export function deleteBatch(target: BatchTarget, keys: Uint8Array, total: number): number | undefined {
  let deleted = 0;
  for (let start = 0; start < total; ) {
    const count = Uint32Array.of(total - start);
    const rest = keys.subarray(start * target.keySize);
    const code = libbpf().bpf_map_delete_batch(target.fd, rest, count, null);
    if (start === 0 && isUnsupported(code)) return undefined;
    if (code !== -ENOENT) check('bpf_map_delete_batch', code, target.name);
    const [done = 0] = count;
    deleted += done;
    // The kernel stops at a key that is not there, or did all of the rest.
    start += done + 1;
  }
  return deleted;
}

function allocate(target: BatchTarget, count: number): { keys: Uint8Array; values: Uint8Array } {
  return {
    keys: new Uint8Array(target.keySize * count),
    values: new Uint8Array(target.valueSize * count),
  };
}

function isUnsupported(code: number): boolean {
  return code === -ENOTSUPP || code === -EOPNOTSUPP || code === -EINVAL;
}
