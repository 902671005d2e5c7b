// SPDX-License-Identifier: Apache-2.0
// biome-ignore-all lint/performance/noBarrelFile: the entry of a package, all that is public and nothing else.

export {
  Btf,
  type BtfMember,
  type BtfType,
  type BtfVariable,
} from './btf.ts';
export { codecByName, codecOfType, sizeOfType, type TypeOverrides } from './btf-codec.ts';
export { readBtfFile } from './btf-file.ts';
export {
  array,
  be16,
  be32,
  be64,
  bool,
  bytes,
  type Codec,
  type CodecValue,
  decode,
  encode,
  i8,
  i16,
  i32,
  i64,
  mapped,
  struct,
  u8,
  u16,
  u32,
  u64,
} from './codec.ts';
export type { LinkType, MapType, ProgramType, TcDirection } from './constants.ts';
export { BpfError, type BpfErrorDetails } from './errors.ts';
export type { GlobalValue } from './globals.ts';
export { type LinkInfo, type MapInfo, type ProgramInfo, readKernelBtf } from './info.ts';
export { BpfLink } from './link.ts';
export { type LogHandler, type LogLevel, setLogHandler } from './log.ts';
export { BpfMap, possibleCpus } from './map.ts';
export type { PutMode } from './map-batch.ts';
export type { MapSettings } from './map-settings.ts';
export { type BpfObject, type OpenedObject, type OpenOptions, openObject } from './object.ts';
export { unpin } from './pin.ts';
export { BpfProgram } from './program.ts';
export type { RunOptions, RunResult } from './program-run.ts';
export { RingBuffer } from './ring-buffer.ts';
export { decodeSkBuff, encodeSkBuff, type SkBuff } from './sk-buff.ts';
export {
  attachTc,
  createClsact,
  destroyClsact,
  detachTc,
  queryTc,
  type TcAttached,
  type TcAttachOptions,
  type TcFilter,
  type TcHook,
} from './tc.ts';
export { attachTcx, tcxProgramIds, tcxSupported } from './tcx.ts';
export type { TypedMap } from './typed-map.ts';
export { libbpfVersion } from './version.ts';
