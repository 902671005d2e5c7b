// SPDX-License-Identifier: Apache-2.0
import type { Btf } from './btf.ts';
import { codecOfType, type TypeOverrides } from './btf-codec.ts';
import { copyBtf } from './btf-file.ts';
import { decode, encode, LITTLE_ENDIAN, u32, viewOf } from './codec.ts';
import { BpfError, EBADF, EINVAL, ENOENT } from './errors.ts';
import { encodeGlobal, findGlobal, type Global, type GlobalValue, globalsOf } from './globals.ts';
import { call, callForPointer } from './log.ts';
import { BpfMap } from './map.ts';
import { MapSettings } from './map-settings.ts';
import {
  bytesAt,
  libbpf,
  type MapPointer,
  type ObjectPointer,
  type ProgramPointer,
  setPointer,
} from './native.ts';
import { BpfProgram } from './program.ts';

export interface OpenOptions {
  /** Name of the object, also the start of the names of its data maps; default: the file's. */
  readonly name?: string;
  /** Where maps with `__uint(pinning, LIBBPF_PIN_BY_NAME)` are pinned; default /sys/fs/bpf. */
  readonly pinRoot?: string;
}

/** What an opened and a loaded object have in common. */
interface Contents {
  readonly path: string;
  readonly pointer: ObjectPointer;
  readonly btf: Btf;
  readonly globals: ReadonlyMap<string, Global>;
  readonly maps: ReadonlyMap<string, MapPointer>;
  readonly programs: ReadonlyMap<string, ProgramPointer>;
}

/** Opens an object file. Nothing is in the kernel yet. Throws BpfError ENOENT, LIBBPF_FORMAT and the like. */
export function openObject(path: string, options: OpenOptions = {}): OpenedObject {
  // struct bpf_object_open_opts
  const request = new Uint8Array(80);
  viewOf(request).setBigUint64(0, BigInt(request.length), LITTLE_ENDIAN);
  if (options.name !== undefined) setPointer(request, 8, Buffer.from(`${options.name}\0`));
  if (options.pinRoot !== undefined) setPointer(request, 24, Buffer.from(`${options.pinRoot}\0`));
  const pointer = callForPointer('bpf_object__open_file', path, (native) =>
    native.bpf_object__open_file(path, request),
  );
  try {
    return new OpenedObject(contentsOf(path, pointer));
  } catch (error) {
    libbpf().bpf_object__close(pointer);
    throw error;
  }
}

/** An object file before it is loaded: everything can still be set. */
export class OpenedObject implements Disposable {
  #contents: Contents | undefined;
  readonly #path: string;

  /** Use openObject. */
  constructor(contents: Contents) {
    this.#contents = contents;
    this.#path = contents.path;
  }

  get btf(): Btf {
    return this.#use().btf;
  }

  get mapNames(): string[] {
    return [...this.#use().maps.keys()];
  }

  get programNames(): string[] {
    return [...this.#use().programs.keys()];
  }

  /** Names of the global variables. */
  get globalNames(): string[] {
    return [...this.#use().globals.keys()];
  }

  /** Throws BpfError ENOENT if there is no such map. */
  map(name: string): MapSettings {
    find(this.#use(), 'maps', name);
    return new MapSettings(name, () => find(this.#use(), 'maps', name));
  }

  /** Whether load loads that program too; true for all unless SEC() says otherwise. */
  setAutoload(program: string, load: boolean): void {
    const pointer = find(this.#use(), 'programs', program);
    call('bpf_program__set_autoload', program, (native) => native.bpf_program__set_autoload(pointer, load));
  }

  /**
   * Sets the first value of a global variable; of a constant (`const volatile`) the only one. Takes
   * what the variable's BTF codec takes, or its bytes.
   */
  setGlobal(name: string, value: GlobalValue, overrides?: TypeOverrides): void {
    const { btf, globals } = this.#use();
    const global = findGlobal(globals, name);
    const bytes = encodeGlobal(btf, global, value, overrides);
    this.#section(global).set(bytes, global.offset);
  }

  /** The first value of a global variable. */
  getGlobal(name: string, overrides?: TypeOverrides): unknown {
    const { btf, globals } = this.#use();
    const global = findGlobal(globals, name);
    const bytes = this.#section(global).slice(global.offset, global.offset + global.size);
    return decode(codecOfType(btf, global.type, overrides), bytes);
  }

  /**
   * Creates the maps and loads the programs. This object cannot be used afterwards, whether it
   * works or not. A rejected program throws a BpfError with `verifierLog`; nothing stays loaded.
   */
  load(): BpfObject {
    const contents = this.#use();
    this.#contents = undefined;
    try {
      call('bpf_object__load', contents.path, (native) => native.bpf_object__load(contents.pointer));
      return new BpfObject(contents);
    } catch (error) {
      libbpf().bpf_object__close(contents.pointer);
      throw error;
    }
  }

  /** May be called more than once; does nothing after load(). */
  close(): void {
    const contents = this.#contents;
    this.#contents = undefined;
    if (contents !== undefined) libbpf().bpf_object__close(contents.pointer);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #use(): Contents {
    return usable(this.#contents, this.#path, 'it is loaded or closed');
  }

  /** The memory that libbpf fills the section's map from. */
  #section(global: Global): Uint8Array {
    const { pointer, path } = this.#use();
    const map = callForPointer('bpf_object__find_map_by_name', global.section, (native) =>
      native.bpf_object__find_map_by_name(pointer, global.section),
    );
    const size = new BigUint64Array(1);
    const address = libbpf().bpf_map__initial_value(map, size);
    const length = Number(size[0]);
    if (address === null || global.offset + global.size > length) {
      const reason = `section ${global.section} has no initial value at ${global.offset}`;
      throw new BpfError({ operation: 'find variable', errno: EINVAL, subject: path, reason });
    }
    return bytesAt(address, length);
  }
}

/** An object whose maps and programs are in the kernel. */
export class BpfObject implements Disposable {
  #contents: Contents | undefined;
  readonly #path: string;
  readonly #maps = new Map<string, BpfMap>();
  readonly #programs = new Map<string, BpfProgram>();

  /** Use openObject(path).load(). */
  constructor(contents: Contents) {
    this.#contents = contents;
    this.#path = contents.path;
  }

  get btf(): Btf {
    return this.#use().btf;
  }

  get mapNames(): string[] {
    return [...this.#use().maps.keys()];
  }

  get programNames(): string[] {
    return [...this.#use().programs.keys()];
  }

  /** Usable until the object is closed. Throws BpfError ENOENT if there is none of this name. */
  map(name: string): BpfMap {
    const pointer = find(this.#use(), 'maps', name);
    const known = this.#maps.get(name);
    if (known !== undefined) return known;
    const fd = call('bpf_map__fd', name, (native) => native.bpf_map__fd(pointer));
    const map = new BpfMap(fd, { owned: false });
    this.#maps.set(name, map);
    return map;
  }

  /** Usable until the object is closed. Throws BpfError ENOENT if there is none of this name, or it was not loaded. */
  program(name: string): BpfProgram {
    const pointer = find(this.#use(), 'programs', name);
    const known = this.#programs.get(name);
    if (known !== undefined) return known;
    const fd = call('bpf_program__fd', name, (native) => native.bpf_program__fd(pointer));
    const program = new BpfProgram(fd, { owned: false });
    this.#programs.set(name, program);
    return program;
  }

  /** The value of a global variable as it is now. */
  getGlobal(name: string, overrides?: TypeOverrides): unknown {
    const { btf, globals, pointer } = this.#use();
    const global = findGlobal(globals, name);
    const section = callForPointer('bpf_object__find_map_by_name', global.section, (native) =>
      native.bpf_object__find_map_by_name(pointer, global.section),
    );
    // Not the mapped memory: before libbpf 1.5 it is not the map's.
    const map = new BpfMap(libbpf().bpf_map__fd(section), { owned: false });
    const bytes = map.raw().get(encode(u32, 0));
    if (bytes === undefined) {
      throw new BpfError({ operation: 'read variable', errno: ENOENT, subject: name });
    }
    const value = bytes.slice(global.offset, global.offset + global.size);
    return decode(codecOfType(btf, global.type, overrides), value);
  }

  /** May be called more than once. Closes its maps and programs too; what is pinned or attached lives on. */
  close(): void {
    const contents = this.#contents;
    if (contents === undefined) return;
    this.#contents = undefined;
    for (const handle of [...this.#maps.values(), ...this.#programs.values()]) handle.close();
    libbpf().bpf_object__close(contents.pointer);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #use(): Contents {
    return usable(this.#contents, this.#path, 'it is closed');
  }
}

function contentsOf(path: string, pointer: ObjectPointer): Contents {
  const native = libbpf();
  const maps = new Map<string, MapPointer>();
  for (let map = native.bpf_object__next_map(pointer, null); map !== null; ) {
    maps.set(native.bpf_map__name(map), map);
    map = native.bpf_object__next_map(pointer, map);
  }
  const programs = new Map<string, ProgramPointer>();
  for (let program = native.bpf_object__next_program(pointer, null); program !== null; ) {
    programs.set(native.bpf_program__name(program), program);
    program = native.bpf_object__next_program(pointer, program);
  }
  const types = callForPointer('bpf_object__btf', path, () => native.bpf_object__btf(pointer));
  const btf = copyBtf(types, path);
  return { path, pointer, btf, globals: globalsOf(btf), maps, programs };
}

function find<Kind extends 'maps' | 'programs'>(
  contents: Contents,
  kind: Kind,
  name: string,
): Kind extends 'maps' ? MapPointer : ProgramPointer;
function find(contents: Contents, kind: 'maps' | 'programs', name: string): bigint {
  const pointer = contents[kind].get(name);
  if (pointer !== undefined) return pointer;
  const reason = `${contents.path} has only ${[...contents[kind].keys()].join(', ')}`;
  throw new BpfError({ operation: `find in ${kind}`, errno: ENOENT, subject: name, reason });
}

function usable(contents: Contents | undefined, path: string, reason: string): Contents {
  if (contents !== undefined) return contents;
  throw new BpfError({ operation: 'use object', errno: EBADF, subject: path, reason });
}
