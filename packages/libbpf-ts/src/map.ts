// SPDX-License-Identifier: Apache-2.0
import type { Btf } from './btf.ts';
import { codecOfType, type TypeOverrides } from './btf-codec.ts';
import { bytes, type Codec, roundUp } from './codec.ts';
import { PER_CPU_MAPS } from './constants.ts';
import { BpfError, check, ENOENT } from './errors.ts';
import { FileDescriptor } from './fd.ts';
import { type MapInfo, readKernelBtf, readMapInfo } from './info.ts';
import { libbpf } from './native.ts';
import { getPinned, pinTo } from './pin.ts';
import { perCpu } from './special-codecs.ts';
import { TypedMap } from './typed-map.ts';

/**
 * A map in the kernel. Its elements are reached through `typed`, `typedPerCpu`, `typedByBtf` or
 * `raw`, which all check that the codecs fit the map.
 */
export class BpfMap implements Disposable {
  readonly #fd: FileDescriptor;
  #info: MapInfo;

  /** Takes a descriptor of a map. `owned`: close() closes it. */
  constructor(fd: number, options: { readonly owned: boolean }) {
    this.#info = readMapInfo(fd);
    this.#fd = new FileDescriptor(fd, `map ${this.#info.name}`, options);
  }

  /** `bpftool map show pinned PATH`. Throws BpfError ENOENT if nothing is there, EINVAL if it is no map. */
  static openPinned(path: string): BpfMap {
    const fd = getPinned(path);
    return FileDescriptor.adopt(fd, 'map', path, () => new BpfMap(fd, { owned: true }));
  }

  /** `bpftool map show id ID`. Throws BpfError ENOENT if there is none. */
  static openById(id: number): BpfMap {
    const subject = `map ${id}`;
    const fd = check('bpf_map_get_fd_by_id', libbpf().bpf_map_get_fd_by_id(id), subject);
    return FileDescriptor.adopt(fd, 'map', subject, () => new BpfMap(fd, { owned: true }));
  }

  /** Throws BpfError EBADF after close(). */
  get fd(): number {
    return this.#fd.value;
  }

  /** As it was when the map was opened; nothing in it ever changes. */
  get info(): MapInfo {
    return this.#info;
  }

  get id(): number {
    return this.#info.id;
  }

  get isPerCpu(): boolean {
    return PER_CPU_MAPS.has(this.#info.type);
  }

  /** Bytes of a value as user space sees it: of a per-CPU map, the slots of all possible CPUs. */
  get userValueSize(): number {
    const { valueSize } = this.#info;
    return this.isPerCpu ? roundUp(valueSize, 8) * possibleCpus() : valueSize;
  }

  /** Elements by described codecs. Throws TypeError for a per-CPU map, RangeError if a size differs. */
  typed<K, V>(key: Codec<K>, value: Codec<V>): TypedMap<K, V> {
    if (this.isPerCpu) throw new TypeError(`map ${this.#info.name} has values for each CPU`);
    this.#expect('value', value, this.#info.valueSize);
    return this.#view(key, value);
  }

  /** Elements of a per-CPU map; values are arrays with one element for each possible CPU. */
  typedPerCpu<K, V>(key: Codec<K>, value: Codec<V>): TypedMap<K, V[]> {
    if (!this.isPerCpu) throw new TypeError(`map ${this.#info.name} is not per CPU`);
    this.#expect('value', value, this.#info.valueSize);
    return this.#view(key, perCpu(value, possibleCpus()));
  }

  /**
   * Elements by codecs made from the map's BTF, which the kernel keeps also for pinned maps. The
   * types K and V are the caller's promise; of a per-CPU map V is an array. Throws BpfError ENOENT
   * if the map has no BTF.
   */
  typedByBtf<K, V>(overrides?: TypeOverrides): TypedMap<K, V> {
    const btf = this.btf();
    const key = codecOfType(btf, this.#info.btfKeyType, overrides) as Codec<K>;
    const value = codecOfType(btf, this.#info.btfValueType, overrides);
    const values = this.isPerCpu ? perCpu(value, possibleCpus()) : value;
    return this.#view(key, values as Codec<V>);
  }

  /** Keys and values as bytes; values of per-CPU maps with the slots of all CPUs. */
  raw(): TypedMap<Uint8Array, Uint8Array> {
    return this.#view(bytes(this.#info.keySize), bytes(this.userValueSize));
  }

  /** The types that the map was made with. Throws BpfError ENOENT if it was made without. */
  btf(): Btf {
    if (this.#info.btfId === 0 || this.#info.btfKeyType === 0) {
      const reason = 'the map was created without BTF: describe its codecs';
      throw new BpfError({ operation: 'btf', errno: ENOENT, subject: this.#info.name, reason });
    }
    return readKernelBtf(this.#info.btfId);
  }

  /** `bpftool map pin`. Throws BpfError EEXIST if the path is taken. */
  pin(path: string): void {
    pinTo(this.fd, path);
  }

  /** `bpftool map freeze`: user space can write no more. */
  freeze(): void {
    check('bpf_map_freeze', libbpf().bpf_map_freeze(this.fd), this.#info.name);
  }

  /** May be called more than once. The map lives on while it is pinned or a program uses it. */
  close(): void {
    this.#fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #view<K, V>(key: Codec<K>, value: Codec<V>): TypedMap<K, V> {
    this.#expect('key', key, this.#info.keySize);
    this.#expect('value', value, this.userValueSize);
    return new TypedMap(this, key, value);
  }

  #expect(what: string, codec: { readonly size: number }, size: number): void {
    if (codec.size === size) return;
    throw new RangeError(`map ${this.#info.name}: ${what}s have ${size} bytes, the codec has ${codec.size}`);
  }
}

let cpus: number | undefined;

/** CPUs that may ever come online: the number of slots of a per-CPU value. */
export function possibleCpus(): number {
  cpus ??= check('libbpf_num_possible_cpus', libbpf().libbpf_num_possible_cpus());
  return cpus;
}
