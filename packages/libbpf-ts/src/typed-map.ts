// SPDX-License-Identifier: Apache-2.0
import { type Codec, viewOf } from './codec.ts';
import { ARRAY_MAPS, type MapType } from './constants.ts';
import { check, EEXIST, ENOENT } from './errors.ts';
import {
  type BatchTarget,
  deleteBatch,
  PUT_FLAGS,
  type PutMode,
  type RawBatch,
  readBatches,
  updateBatch,
} from './map-batch.ts';
import { libbpf } from './native.ts';

/** What a view needs of the map that it shows. */
export interface MapHandle {
  readonly fd: number;
  readonly info: {
    readonly name: string;
    readonly type: MapType;
    readonly maxEntries: number;
  };
}

interface Room {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

function makeRoom(size: number): Room {
  const bytes = new Uint8Array(size);
  return { bytes, view: viewOf(bytes) };
}

const DEFAULT_BATCH = 1024;

/** The elements of a map as values of K and V. Usable until the map is closed. */
export class TypedMap<K, V> {
  readonly #map: MapHandle;
  readonly #key: Codec<K>;
  readonly #value: Codec<V>;
  // Memory for one element, used again for every call: a new array a call halves the speed.
  readonly #keyRoom: Room;
  readonly #valueRoom: Room;

  /** The codecs must have the map's sizes: use the methods of BpfMap, which check it. */
  constructor(map: MapHandle, key: Codec<K>, value: Codec<V>) {
    this.#map = map;
    this.#key = key;
    this.#value = value;
    this.#keyRoom = makeRoom(key.size);
    this.#valueRoom = makeRoom(value.size);
  }

  /** The value, or undefined if the key is not there. */
  get(key: K): V | undefined {
    return this.#read('bpf_map_lookup_elem', key);
  }

  has(key: K): boolean {
    return this.get(key) !== undefined;
  }

  /** Removes an element and returns what it was, or undefined. Hash maps only. */
  take(key: K): V | undefined {
    return this.#read('bpf_map_lookup_and_delete_elem', key);
  }

  /** True if it was written; false if `mode` forbids it. Throws BpfError E2BIG if the map is full. */
  put(key: K, value: V, mode: PutMode = 'any'): boolean {
    const [k, v] = [this.#encodeKey(key), this.#encodeValue(value)];
    const code = libbpf().bpf_map_update_elem(this.#map.fd, k, v, PUT_FLAGS[mode]);
    if (mode === 'noexist' && code === -EEXIST) return false;
    if (mode === 'exist' && code === -ENOENT) return false;
    check('bpf_map_update_elem', code, this.#map.info.name);
    return true;
  }

  /** True if it was there. Throws BpfError EINVAL for maps that cannot delete (arrays). */
  delete(key: K): boolean {
    const code = libbpf().bpf_map_delete_elem(this.#map.fd, this.#encodeKey(key));
    if (code === -ENOENT) return false;
    check('bpf_map_delete_elem', code, this.#map.info.name);
    return true;
  }

  /**
   * All keys, one system call each. If the key that was returned last is deleted by somebody else,
   * the kernel starts again from the first: keys can then come twice.
   */
  *keys(): Generator<K, void> {
    for (const key of this.#rawKeys()) yield this.#key.read(viewOf(key), 0);
  }

  /** All elements, read in batches where the kernel can, for a map that others change meanwhile too. */
  *entries(batchSize: number = DEFAULT_BATCH): Generator<[K, V], void> {
    for (const batch of this.batches(batchSize)) yield* batch;
  }

  [Symbol.iterator](): Generator<[K, V], void> {
    return this.entries();
  }

  /** As entries(), by the batch: let the event loop run between two of them on a huge map. */
  *batches(batchSize: number = DEFAULT_BATCH): Generator<[K, V][], void> {
    const raw = readBatches(this.#target(), 'bpf_map_lookup_batch', batchSize);
    for (;;) {
      const step = raw.next();
      if (!step.done) {
        yield this.#decodeBatch(step.value);
        continue;
      }
      if (step.value === 'unsupported') yield* this.#batchesOneByOne(batchSize);
      return;
    }
  }

  /** Number of elements; reads the whole map (the kernel keeps no count), but decodes nothing. */
  count(): number {
    if (ARRAY_MAPS.has(this.#map.info.type)) return this.#map.info.maxEntries;
    const raw = readBatches(this.#target(), 'bpf_map_lookup_batch', 4096);
    for (let sum = 0; ; ) {
      const step = raw.next();
      if (!step.done) sum += step.value.count;
      else return step.value === 'done' ? sum : [...this.#rawKeys()].length;
    }
  }

  /**
   * Writes all, in one system call where the kernel can. Throws BpfError at the first element that
   * fails (EEXIST, ENOENT or E2BIG); those before it are written.
   */
  putBatch(entries: Iterable<readonly [K, V]>, mode: PutMode = 'any'): void {
    const all = [...entries];
    const keys = new Uint8Array(all.length * this.#key.size);
    const values = new Uint8Array(all.length * this.#value.size);
    const [keyView, valueView] = [viewOf(keys), viewOf(values)];
    for (const [index, [key, value]] of all.entries()) {
      this.#key.write(keyView, index * this.#key.size, key);
      this.#value.write(valueView, index * this.#value.size, value);
    }
    if (updateBatch(this.#target(), { count: all.length, keys, values }, mode)) return;
    for (const [key, value] of all) {
      if (this.put(key, value, mode)) continue;
      const errno = mode === 'noexist' ? EEXIST : ENOENT;
      check('bpf_map_update_elem', -errno, this.#map.info.name);
    }
  }

  /** Deletes those that are there, in few system calls; returns how many they were. */
  deleteBatch(keys: Iterable<K>): number {
    const all = [...keys];
    const raw = new Uint8Array(all.length * this.#key.size);
    const view = viewOf(raw);
    for (const [index, key] of all.entries()) this.#key.write(view, index * this.#key.size, key);
    const deleted = deleteBatch(this.#target(), raw, all.length);
    return deleted ?? all.filter((key) => this.delete(key)).length;
  }

  /** Removes all elements and returns them. Hash maps only. */
  drain(): [K, V][] {
    const drained: [K, V][] = [];
    const raw = readBatches(this.#target(), 'bpf_map_lookup_and_delete_batch', DEFAULT_BATCH);
    for (;;) {
      const step = raw.next();
      if (!step.done) drained.push(...this.#decodeBatch(step.value));
      else return step.value === 'done' ? drained : this.#drainOneByOne();
    }
  }

  #drainOneByOne(): [K, V][] {
    const all = [...this.entries()];
    return all.filter(([key]) => this.delete(key));
  }

  #read(operation: 'bpf_map_lookup_elem' | 'bpf_map_lookup_and_delete_elem', key: K): V | undefined {
    const { bytes, view } = this.#valueRoom;
    const code = libbpf()[operation](this.#map.fd, this.#encodeKey(key), bytes);
    if (code === -ENOENT) return undefined;
    check(operation, code, this.#map.info.name);
    return this.#value.read(view, 0);
  }

  *#rawKeys(): Generator<Uint8Array, void> {
    let previous: Uint8Array | null = null;
    for (;;) {
      const next = new Uint8Array(this.#key.size);
      const code = libbpf().bpf_map_get_next_key(this.#map.fd, previous, next);
      if (code === -ENOENT) return;
      check('bpf_map_get_next_key', code, this.#map.info.name);
      yield next;
      previous = next;
    }
  }

  *#batchesOneByOne(batchSize: number): Generator<[K, V][], void> {
    let batch: [K, V][] = [];
    for (const key of this.keys()) {
      const value = this.get(key);
      if (value === undefined) continue;
      batch.push([key, value]);
      if (batch.length < batchSize) continue;
      yield batch;
      batch = [];
    }
    if (batch.length > 0) yield batch;
  }

  #decodeBatch(batch: RawBatch): [K, V][] {
    const [keys, values] = [viewOf(batch.keys), viewOf(batch.values)];
    return Array.from({ length: batch.count }, (_, index) => [
      this.#key.read(keys, index * this.#key.size),
      this.#value.read(values, index * this.#value.size),
    ]);
  }

  #encodeKey(key: K): Uint8Array {
    this.#key.write(this.#keyRoom.view, 0, key);
    return this.#keyRoom.bytes;
  }

  #encodeValue(value: V): Uint8Array {
    // Padding between the slots of CPUs belongs to no codec: it is zero only if it stays so.
    this.#valueRoom.bytes.fill(0);
    this.#value.write(this.#valueRoom.view, 0, value);
    return this.#valueRoom.bytes;
  }

  #target(): BatchTarget {
    return {
      fd: this.#map.fd,
      name: this.#map.info.name,
      keySize: this.#key.size,
      valueSize: this.#value.size,
    };
  }
}
