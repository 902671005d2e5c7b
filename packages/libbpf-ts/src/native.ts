// SPDX-License-Identifier: Apache-2.0
import koffi, { type LibraryHandle } from 'koffi';
import { LITTLE_ENDIAN, viewOf } from './codec.ts';
import { BpfError, ENOENT } from './errors.ts';

declare const tag: unique symbol;
/** Address of a C object. Branded, because the C side checks nothing. */
export type Pointer<Name extends string> = bigint & { readonly [tag]: Name };
export type ObjectPointer = Pointer<'bpf_object'>;
export type MapPointer = Pointer<'bpf_map'>;
export type ProgramPointer = Pointer<'bpf_program'>;
export type BtfPointer = Pointer<'btf'>;
export type RingBufferPointer = Pointer<'ring_buffer'>;

/** Memory that is passed by address. */
export type Memory = Uint8Array | Uint32Array | BigUint64Array;

/**
 * Functions of libbpf.so.1 that are in every release since 1.0. Those that return a number return
 * a negative error number on failure; those that return a pointer return null and set errno.
 */
export interface Libbpf {
  libbpf_version_string(): string;
  libbpf_num_possible_cpus(): number;
  libbpf_set_print(callback: bigint | null): bigint | null;

  bpf_object__open_file(path: string, options: Memory | null): ObjectPointer | null;
  bpf_object__load(object: ObjectPointer): number;
  bpf_object__close(object: ObjectPointer): void;
  bpf_object__btf(object: ObjectPointer): BtfPointer | null;
  bpf_object__find_map_by_name(object: ObjectPointer, name: string): MapPointer | null;
  bpf_object__next_map(object: ObjectPointer, map: MapPointer | null): MapPointer | null;
  bpf_object__find_program_by_name(object: ObjectPointer, name: string): ProgramPointer | null;
  bpf_object__next_program(object: ObjectPointer, program: ProgramPointer | null): ProgramPointer | null;

  bpf_map__name(map: MapPointer): string;
  bpf_map__fd(map: MapPointer): number;
  bpf_map__type(map: MapPointer): number;
  bpf_map__key_size(map: MapPointer): number;
  bpf_map__value_size(map: MapPointer): number;
  bpf_map__max_entries(map: MapPointer): number;
  bpf_map__set_max_entries(map: MapPointer, entries: number): number;
  bpf_map__map_flags(map: MapPointer): number;
  bpf_map__set_map_flags(map: MapPointer, flags: number): number;
  bpf_map__pin_path(map: MapPointer): string | null;
  bpf_map__set_pin_path(map: MapPointer, path: string | null): number;
  bpf_map__reuse_fd(map: MapPointer, fd: number): number;
  bpf_map__set_inner_map_fd(map: MapPointer, fd: number): number;
  bpf_map__set_autocreate(map: MapPointer, create: boolean): number;
  bpf_map__initial_value(map: MapPointer, size: BigUint64Array): bigint | null;

  bpf_program__name(program: ProgramPointer): string;
  bpf_program__section_name(program: ProgramPointer): string;
  bpf_program__fd(program: ProgramPointer): number;
  bpf_program__set_autoload(program: ProgramPointer, load: boolean): number;

  bpf_map_lookup_elem(fd: number, key: Memory | null, value: Memory): number;
  bpf_map_lookup_and_delete_elem(fd: number, key: Memory | null, value: Memory): number;
  bpf_map_update_elem(fd: number, key: Memory | null, value: Memory, flags: number): number;
  bpf_map_delete_elem(fd: number, key: Memory): number;
  bpf_map_get_next_key(fd: number, key: Memory | null, next: Memory): number;
  bpf_map_lookup_batch: BatchRead;
  bpf_map_lookup_and_delete_batch: BatchRead;
  bpf_map_update_batch(
    fd: number,
    keys: Memory,
    values: Memory,
    count: Uint32Array,
    options: Memory | null,
  ): number;
  bpf_map_delete_batch(fd: number, keys: Memory, count: Uint32Array, options: Memory | null): number;
  bpf_map_freeze(fd: number): number;

  bpf_obj_pin(fd: number, path: string): number;
  bpf_obj_get(path: string): number;
  bpf_obj_get_info_by_fd(fd: number, info: Memory, size: Uint32Array): number;
  bpf_prog_get_fd_by_id(id: number): number;
  bpf_map_get_fd_by_id(id: number): number;
  bpf_btf_get_fd_by_id(id: number): number;
  bpf_link_get_fd_by_id(id: number): number;
  bpf_prog_test_run_opts(fd: number, options: Memory): number;
  bpf_prog_query(
    target: number,
    attachType: number,
    queryFlags: number,
    attachFlags: Uint32Array | null,
    ids: Uint32Array,
    count: Uint32Array,
  ): number;
  bpf_link_create(programFd: number, target: number, attachType: number, options: Memory | null): number;
  bpf_link_update(linkFd: number, programFd: number, options: Memory | null): number;
  bpf_link_detach(linkFd: number): number;

  bpf_tc_hook_create(hook: Memory): number;
  bpf_tc_hook_destroy(hook: Memory): number;
  bpf_tc_attach(hook: Memory, options: Memory): number;
  bpf_tc_detach(hook: Memory, options: Memory): number;
  bpf_tc_query(hook: Memory, options: Memory): number;

  btf__parse(path: string, ext: null): BtfPointer | null;
  btf__raw_data(btf: BtfPointer, size: Uint32Array): bigint | null;
  btf__free(btf: BtfPointer): void;

  ring_buffer__new(mapFd: number, callback: bigint, context: null, options: null): RingBufferPointer | null;
  ring_buffer__consume(ring: RingBufferPointer): number;
  ring_buffer__free(ring: RingBufferPointer): void;
}

type BatchRead = (
  fd: number,
  inBatch: Memory | null,
  outBatch: Memory,
  keys: Memory,
  values: Memory,
  count: Uint32Array,
  options: Memory | null,
) => number;

const BATCH_READ = 'int fd, void *in, void *out, void *keys, void *values, void *n, void *opts';

const DECLARATIONS: Readonly<Record<keyof Libbpf, string>> = {
  libbpf_version_string: 'const char *libbpf_version_string()',
  libbpf_num_possible_cpus: 'int libbpf_num_possible_cpus()',
  libbpf_set_print: 'void *libbpf_set_print(void *fn)',
  bpf_object__open_file: 'void *bpf_object__open_file(const char *path, void *opts)',
  bpf_object__load: 'int bpf_object__load(void *obj)',
  bpf_object__close: 'void bpf_object__close(void *obj)',
  bpf_object__btf: 'void *bpf_object__btf(void *obj)',
  bpf_object__find_map_by_name: 'void *bpf_object__find_map_by_name(void *obj, const char *name)',
  bpf_object__next_map: 'void *bpf_object__next_map(void *obj, void *map)',
  bpf_object__find_program_by_name: 'void *bpf_object__find_program_by_name(void *obj, const char *name)',
  bpf_object__next_program: 'void *bpf_object__next_program(void *obj, void *prog)',
  bpf_map__name: 'const char *bpf_map__name(void *map)',
  bpf_map__fd: 'int bpf_map__fd(void *map)',
  bpf_map__type: 'int bpf_map__type(void *map)',
  bpf_map__key_size: 'uint32_t bpf_map__key_size(void *map)',
  bpf_map__value_size: 'uint32_t bpf_map__value_size(void *map)',
  bpf_map__max_entries: 'uint32_t bpf_map__max_entries(void *map)',
  bpf_map__set_max_entries: 'int bpf_map__set_max_entries(void *map, uint32_t n)',
  bpf_map__map_flags: 'uint32_t bpf_map__map_flags(void *map)',
  bpf_map__set_map_flags: 'int bpf_map__set_map_flags(void *map, uint32_t flags)',
  bpf_map__pin_path: 'const char *bpf_map__pin_path(void *map)',
  bpf_map__set_pin_path: 'int bpf_map__set_pin_path(void *map, const char *path)',
  bpf_map__reuse_fd: 'int bpf_map__reuse_fd(void *map, int fd)',
  bpf_map__set_inner_map_fd: 'int bpf_map__set_inner_map_fd(void *map, int fd)',
  bpf_map__set_autocreate: 'int bpf_map__set_autocreate(void *map, bool create)',
  bpf_map__initial_value: 'void *bpf_map__initial_value(void *map, void *size)',
  bpf_program__name: 'const char *bpf_program__name(void *prog)',
  bpf_program__section_name: 'const char *bpf_program__section_name(void *prog)',
  bpf_program__fd: 'int bpf_program__fd(void *prog)',
  bpf_program__set_autoload: 'int bpf_program__set_autoload(void *prog, bool load)',
  bpf_map_lookup_elem: 'int bpf_map_lookup_elem(int fd, void *key, void *value)',
  bpf_map_lookup_and_delete_elem: 'int bpf_map_lookup_and_delete_elem(int fd, void *key, void *value)',
  bpf_map_update_elem: 'int bpf_map_update_elem(int fd, void *key, void *value, uint64_t flags)',
  bpf_map_delete_elem: 'int bpf_map_delete_elem(int fd, void *key)',
  bpf_map_get_next_key: 'int bpf_map_get_next_key(int fd, void *key, void *next)',
  bpf_map_lookup_batch: `int bpf_map_lookup_batch(${BATCH_READ})`,
  bpf_map_lookup_and_delete_batch: `int bpf_map_lookup_and_delete_batch(${BATCH_READ})`,
  bpf_map_update_batch: 'int bpf_map_update_batch(int fd, void *keys, void *values, void *n, void *opts)',
  bpf_map_delete_batch: 'int bpf_map_delete_batch(int fd, void *keys, void *n, void *opts)',
  bpf_map_freeze: 'int bpf_map_freeze(int fd)',
  bpf_obj_pin: 'int bpf_obj_pin(int fd, const char *path)',
  bpf_obj_get: 'int bpf_obj_get(const char *path)',
  bpf_obj_get_info_by_fd: 'int bpf_obj_get_info_by_fd(int fd, void *info, void *len)',
  bpf_prog_get_fd_by_id: 'int bpf_prog_get_fd_by_id(uint32_t id)',
  bpf_map_get_fd_by_id: 'int bpf_map_get_fd_by_id(uint32_t id)',
  bpf_btf_get_fd_by_id: 'int bpf_btf_get_fd_by_id(uint32_t id)',
  bpf_link_get_fd_by_id: 'int bpf_link_get_fd_by_id(uint32_t id)',
  bpf_prog_test_run_opts: 'int bpf_prog_test_run_opts(int fd, void *opts)',
  bpf_prog_query:
    'int bpf_prog_query(int target, int type, uint32_t query, void *attach, void *ids, void *n)',
  bpf_link_create: 'int bpf_link_create(int prog, int target, int type, void *opts)',
  bpf_link_update: 'int bpf_link_update(int link, int prog, void *opts)',
  bpf_link_detach: 'int bpf_link_detach(int link)',
  bpf_tc_hook_create: 'int bpf_tc_hook_create(void *hook)',
  bpf_tc_hook_destroy: 'int bpf_tc_hook_destroy(void *hook)',
  bpf_tc_attach: 'int bpf_tc_attach(void *hook, void *opts)',
  bpf_tc_detach: 'int bpf_tc_detach(void *hook, void *opts)',
  bpf_tc_query: 'int bpf_tc_query(void *hook, void *opts)',
  btf__parse: 'void *btf__parse(const char *path, void *ext)',
  btf__raw_data: 'void *btf__raw_data(void *btf, void *size)',
  btf__free: 'void btf__free(void *btf)',
  ring_buffer__new: 'void *ring_buffer__new(int fd, void *fn, void *ctx, void *opts)',
  ring_buffer__consume: 'int ring_buffer__consume(void *rb)',
  ring_buffer__free: 'void ring_buffer__free(void *rb)',
};

const SONAME = 'libbpf.so.1';
let loaded: Libbpf | undefined;

/** The functions of the system's libbpf, which is loaded on first use. */
export function libbpf(): Libbpf {
  loaded ??= bindAll(openLibrary());
  return loaded;
}

function openLibrary(): LibraryHandle {
  try {
    return koffi.load(SONAME);
  } catch (cause) {
    const reason = 'cannot be loaded; Debian and Ubuntu have it in the package libbpf1';
    throw new BpfError({ operation: 'dlopen', errno: ENOENT, subject: SONAME, reason }, { cause });
  }
}

function bindAll(library: LibraryHandle): Libbpf {
  const bound = Object.entries(DECLARATIONS).map(([name, text]) => [name, library.func(text)]);
  return Object.fromEntries(bound) as Libbpf;
}

/** What the pointers in a C structure point to lives as long as the structure. */
const referenced = new WeakMap<Uint8Array, Memory[]>();

/** Writes the address of `memory` into a C structure; NULL if it is empty. */
export function setPointer(structure: Uint8Array, offset: number, memory: Memory): void {
  const address = memory.length === 0 ? 0n : koffi.address(memory);
  viewOf(structure).setBigUint64(offset, address, LITTLE_ENDIAN);
  const others = referenced.get(structure) ?? [];
  referenced.set(structure, [...others, memory]);
}

/** The bytes at an address, not copied: valid as long as what they belong to. */
export function bytesAt(address: bigint, size: number): Uint8Array {
  return size === 0 ? new Uint8Array(0) : new Uint8Array(koffi.view(address, size));
}

/** errno as the last pointer-returning function left it, positive. */
export function lastErrno(): number {
  return koffi.errno();
}

/** Makes a C function pointer of a callback. It stays registered for the life of the process unless released. */
export function callback(
  result: string,
  parameters: readonly string[],
  body: (...args: never[]) => unknown,
): bigint {
  // Prototypes stay anonymous: koffi's named types are global and would clash on a second import.
  return koffi.register(body, koffi.pointer(koffi.proto(result, [...parameters])));
}

export function releaseCallback(pointer: bigint): void {
  koffi.unregister(pointer);
}
