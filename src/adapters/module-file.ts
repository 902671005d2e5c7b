// SPDX-License-Identifier: Apache-2.0
/** What a kernel module file (.ko, ELF64 little endian, not compressed) says about itself: its section .modinfo. */
import { readFile } from 'node:fs/promises';
import { errnoError, errnoOf, HostError } from '../core/errors.ts';

export interface ModuleInfo {
  readonly name: string;
  readonly vermagic: string;
  readonly srcversion: string;
  /** Modules that must be loaded before it. */
  readonly depends: readonly string[];
  /** True if a signature is appended. */
  readonly signed: boolean;
}

const SIGNATURE_END = '~Module signature appended~\n';

const SECTION_BYTES = 64;

/** Throws HostError ModuleInvalid if the file is no kernel module, NotFound and the like if it cannot be read. */
export async function readModuleInfo(path: string): Promise<ModuleInfo> {
  const file = await readFile(path).catch((error: unknown) => {
    throw errnoError(`read ${path}`, errnoOf(error) ?? 'EIO', error);
  });
  const fields = parseModinfo(file, path);
  const field = (key: string): string => {
    const value = fields.get(key);
    if (value === undefined) throw invalid(path, `its section .modinfo has no ${key}`);
    return value;
  };
  return {
    name: field('name'),
    vermagic: field('vermagic').trim(),
    srcversion: fields.get('srcversion') ?? '',
    signed: file.subarray(-SIGNATURE_END.length).toString('latin1') === SIGNATURE_END,
    depends: (fields.get('depends') ?? '').split(',').filter((name) => name !== ''),
  };
}

function invalid(path: string, why: string): HostError {
  return new HostError(`${path} is not a kernel module: ${why}`, { code: 'ModuleInvalid' });
}

/** "key=value" strings of the section, the last of a key. */
function parseModinfo(elf: Buffer, path: string): ReadonlyMap<string, string> {
  const section = findSection(elf, '.modinfo', path);
  const fields = new Map<string, string>();
  for (const entry of section.toString('utf8').split('\0')) {
    const at = entry.indexOf('=');
    if (at > 0) fields.set(entry.slice(0, at), entry.slice(at + 1));
  }
  return fields;
}

function findSection(elf: Buffer, name: string, path: string): Buffer {
  const isElf64 = elf.length >= 64 && elf.readUInt32BE(0) === 0x7f454c46 && elf[4] === 2 && elf[5] === 1;
  if (!isElf64) throw invalid(path, 'no ELF64 file (a compressed one must be unpacked first)');
  const table = Number(elf.readBigUInt64LE(0x28));
  const count = elf.readUInt16LE(0x3c);
  if (table + count * SECTION_BYTES > elf.length) throw invalid(path, 'it is truncated');
  const header = (index: number): Buffer =>
    elf.subarray(table + index * SECTION_BYTES, table + (index + 1) * SECTION_BYTES);
  const content = (of: Buffer): Buffer => {
    const start = Number(of.readBigUInt64LE(24));
    return elf.subarray(start, start + Number(of.readBigUInt64LE(32)));
  };
  const names = content(header(elf.readUInt16LE(0x3e)));
  for (let i = 0; i < count; i += 1) {
    const start = header(i).readUInt32LE(0);
    if (names.toString('latin1', start, names.indexOf(0, start)) === name) return content(header(i));
  }
  throw invalid(path, `no section ${name}`);
}
