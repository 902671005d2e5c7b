// SPDX-License-Identifier: Apache-2.0
import { Btf } from './btf.ts';
import { LITTLE_ENDIAN, viewOf } from './codec.ts';
import {
  type LinkType,
  linkTypeName,
  type MapType,
  mapTypeName,
  type ProgramType,
  programTypeName,
} from './constants.ts';
import { check } from './errors.ts';
import { FileDescriptor } from './fd.ts';
import { libbpf, setPointer } from './native.ts';

/** `bpftool map show id ID` */
export interface MapInfo {
  readonly id: number;
  readonly type: MapType;
  /** At most 15 characters: the kernel cuts longer names. */
  readonly name: string;
  readonly keySize: number;
  /** Bytes of one value, also in a per-CPU map. */
  readonly valueSize: number;
  readonly maxEntries: number;
  /** BPF_F_* bits. */
  readonly flags: number;
  /** Ids of BTF and of the key's and the value's type in it; 0 if the map has none. */
  readonly btfId: number;
  readonly btfKeyType: number;
  readonly btfValueType: number;
}

/** `bpftool prog show id ID` */
export interface ProgramInfo {
  readonly id: number;
  readonly type: ProgramType;
  /** At most 15 characters: the kernel cuts longer names. */
  readonly name: string;
  /** Hash of the instructions, 16 hexadecimal digits. */
  readonly tag: string;
  /** Nanoseconds after boot. */
  readonly loadTimeNs: bigint;
  readonly mapIds: readonly number[];
  readonly btfId: number;
  /** Bytes of instructions after the verifier's rewriting. */
  readonly translatedSize: number;
  /** Bytes of machine code. */
  readonly jitedSize: number;
  /** Instructions that the verifier looked at. */
  readonly verifiedInstructions: number;
}

/** `bpftool link show id ID` */
export interface LinkInfo {
  readonly id: number;
  readonly type: LinkType;
  readonly programId: number;
  /** Set for links of type tcx, netkit and xdp; 0 after the interface is gone. */
  readonly ifindex?: number;
  /** enum bpf_attach_type; set for links of type tcx and netkit. */
  readonly attachType?: number;
}

/** More than any kernel's struct bpf_*_info; what a kernel does not know must be and stays zero. */
const INFO_SIZE = 512;

export function readMapInfo(fd: number): MapInfo {
  const { view, bytes } = infoOf(fd, new Uint8Array(INFO_SIZE));
  const u32 = (offset: number) => view.getUint32(offset, LITTLE_ENDIAN);
  return {
    type: mapTypeName(u32(0)),
    id: u32(4),
    keySize: u32(8),
    valueSize: u32(12),
    maxEntries: u32(16),
    flags: u32(20),
    name: nameAt(bytes, 24),
    btfId: u32(64),
    btfKeyType: u32(68),
    btfValueType: u32(72),
  };
}

export function readProgramInfo(fd: number): ProgramInfo {
  const count = infoOf(fd, new Uint8Array(INFO_SIZE)).view.getUint32(52, LITTLE_ENDIAN);
  // Asked again with room for the map ids. A program's maps never change after loading.
  const mapIds = new Uint32Array(count);
  const request = new Uint8Array(INFO_SIZE);
  viewOf(request).setUint32(52, count, LITTLE_ENDIAN);
  setPointer(request, 56, mapIds);
  const { view, bytes } = infoOf(fd, request);
  const u32 = (offset: number) => view.getUint32(offset, LITTLE_ENDIAN);
  return {
    type: programTypeName(u32(0)),
    id: u32(4),
    tag: Buffer.from(bytes.subarray(8, 16)).toString('hex'),
    jitedSize: u32(16),
    translatedSize: u32(20),
    loadTimeNs: view.getBigUint64(40, LITTLE_ENDIAN),
    mapIds: Array.from(mapIds),
    name: nameAt(bytes, 64),
    btfId: u32(128),
    verifiedInstructions: u32(216),
  };
}

export function readLinkInfo(fd: number): LinkInfo {
  const { view } = infoOf(fd, new Uint8Array(INFO_SIZE));
  const u32 = (offset: number) => view.getUint32(offset, LITTLE_ENDIAN);
  const type = linkTypeName(u32(0));
  const base = { type, id: u32(4), programId: u32(8) };
  if (type === 'tcx' || type === 'netkit') {
    return { ...base, ifindex: u32(16), attachType: u32(20) };
  }
  return type === 'xdp' ? { ...base, ifindex: u32(16) } : base;
}

/** The BTF that the kernel keeps under that id (for maps and programs without their object file). */
export function readKernelBtf(id: number): Btf {
  const raw = check('bpf_btf_get_fd_by_id', libbpf().bpf_btf_get_fd_by_id(id), `BTF ${id}`);
  using fd = new FileDescriptor(raw, `BTF ${id}`, { owned: true });
  const size = infoOf(fd.value, new Uint8Array(32)).view.getUint32(8, LITTLE_ENDIAN);
  const data = new Uint8Array(size);
  const request = new Uint8Array(32);
  setPointer(request, 0, data);
  viewOf(request).setUint32(8, size, LITTLE_ENDIAN);
  infoOf(fd.value, request);
  return new Btf(data);
}

function infoOf(fd: number, bytes: Uint8Array): { bytes: Uint8Array; view: DataView } {
  const size = Uint32Array.of(bytes.length);
  check('bpf_obj_get_info_by_fd', libbpf().bpf_obj_get_info_by_fd(fd, bytes, size));
  return { bytes, view: viewOf(bytes) };
}

function nameAt(bytes: Uint8Array, offset: number): string {
  const name = bytes.subarray(offset, offset + 16);
  const end = name.indexOf(0);
  return Buffer.from(name.subarray(0, end < 0 ? 16 : end)).toString('latin1');
}
