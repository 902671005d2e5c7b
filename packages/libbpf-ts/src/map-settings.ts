// SPDX-License-Identifier: Apache-2.0
import { type MapType, mapTypeName } from './constants.ts';
import { BpfError, EINVAL } from './errors.ts';
import { call } from './log.ts';
import type { BpfMap } from './map.ts';
import { libbpf, type MapPointer } from './native.ts';

/** A map of an object that is not loaded yet: what it will be created with. */
export class MapSettings {
  readonly name: string;
  readonly #pointer: () => MapPointer;

  /** `pointer` throws when the object is loaded or closed. */
  constructor(name: string, pointer: () => MapPointer) {
    this.name = name;
    this.#pointer = pointer;
  }

  get type(): MapType {
    return mapTypeName(libbpf().bpf_map__type(this.#pointer()));
  }

  /** Bytes. */
  get keySize(): number {
    return libbpf().bpf_map__key_size(this.#pointer());
  }

  /** Bytes of one value. */
  get valueSize(): number {
    return libbpf().bpf_map__value_size(this.#pointer());
  }

  get maxEntries(): number {
    return libbpf().bpf_map__max_entries(this.#pointer());
  }

  setMaxEntries(entries: number): void {
    const pointer = this.#pointer();
    this.#call('bpf_map__set_max_entries', (native) => native.bpf_map__set_max_entries(pointer, entries));
  }

  /** BPF_F_* bits. */
  get flags(): number {
    return libbpf().bpf_map__map_flags(this.#pointer());
  }

  setFlags(flags: number): void {
    const pointer = this.#pointer();
    this.#call('bpf_map__set_map_flags', (native) => native.bpf_map__set_map_flags(pointer, flags));
  }

  get pinPath(): string | undefined {
    return libbpf().bpf_map__pin_path(this.#pointer()) ?? undefined;
  }

  /**
   * On load the map that is pinned there is used, if it fits (load throws EINVAL if it does not);
   * otherwise a new one is created and pinned there. Directories are made.
   */
  setPinPath(path: string | undefined): void {
    const pointer = this.#pointer();
    this.#call('bpf_map__set_pin_path', (native) => native.bpf_map__set_pin_path(pointer, path ?? null));
  }

  /**
   * Uses that map instead of a new one, with the number of entries that it has. Throws BpfError
   * EINVAL if type, sizes or flags differ: the programs would read the wrong bytes.
   */
  reuse(map: BpfMap): void {
    for (const property of ['type', 'keySize', 'valueSize', 'flags'] as const) {
      if (map.info[property] === this[property]) continue;
      const reason = `${property} is ${this[property]} here and ${map.info[property]} there`;
      throw new BpfError({ operation: 'reuse', errno: EINVAL, subject: this.name, reason });
    }
    const pointer = this.#pointer();
    this.#call('bpf_map__reuse_fd', (native) => native.bpf_map__reuse_fd(pointer, map.fd));
  }

  /** The map that inner maps of this map of maps look like. */
  setInnerMap(map: BpfMap): void {
    const pointer = this.#pointer();
    this.#call('bpf_map__set_inner_map_fd', (native) => native.bpf_map__set_inner_map_fd(pointer, map.fd));
  }

  /** Whether load creates the map. A program that uses a map that is not there is rejected. */
  setAutocreate(create: boolean): void {
    const pointer = this.#pointer();
    this.#call('bpf_map__set_autocreate', (native) => native.bpf_map__set_autocreate(pointer, create));
  }

  #call(operation: string, body: Parameters<typeof call>[2]): void {
    call(operation, this.name, body);
  }
}
