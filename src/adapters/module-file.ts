// SPDX-License-Identifier: Apache-2.0
/** What a kernel module file (.ko, ELF64 little endian, not compressed) says about itself: its section .modinfo. */
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errnoError, errnoOf, HostError, isNotFound } from '../core/errors.ts';

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

/** What the manifest.json of a build says of the files beside it. */
interface Manifest {
  readonly srcversion?: string;
  readonly vermagic?: string;
  /** Of ip_vs.ko. */
  readonly sha256?: string;
  /** Of ipvs_bpf_family_id.ko. */
  readonly familyIdSha256?: string;
}

/** Path → what was checked of it: a file that has not changed since need not be read again. */
const checked = new Map<string, string>();

/**
 * Compares a module, and the helper beside it, with the manifest.json beside them; one without a manifest was put
 * there by hand and counts as it is. Throws HostError ModuleInvalid if they differ.
 */
export async function checkManifest(path: string, info: ModuleInfo): Promise<void> {
  const helper = join(dirname(path), 'ipvs_bpf_family_id.ko');
  const text = await readIfPresent(join(dirname(path), 'manifest.json'));
  if (text === undefined) return;
  const state = `${text}${await versionOf(path)}${await versionOf(helper)}`;
  if (checked.get(path) === state) return;
  const manifest = parseManifest(text.toString('utf8'), path);
  const expect = (what: string, wanted: string | undefined, found: string | undefined): void => {
    if (wanted === undefined || wanted === found) return;
    throw new HostError(`${path} is not what manifest.json says: ${what} is ${found}, not ${wanted}`, {
      code: 'ModuleInvalid',
    });
  };
  expect('vermagic', manifest.vermagic, info.vermagic);
  expect('srcversion', manifest.srcversion, info.srcversion);
  expect('sha256', manifest.sha256, sha256(await readIfPresent(path)));
  const helperFile = await readIfPresent(helper);
  if (helperFile !== undefined) {
    expect('sha256 of ipvs_bpf_family_id.ko', manifest.familyIdSha256, sha256(helperFile));
  }
  checked.set(path, state);
}

function parseManifest(text: string, path: string): Manifest {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value;
  } catch {
    // told below
  }
  throw new HostError(`the manifest.json beside ${path} is no JSON object`, { code: 'ModuleInvalid' });
}

function sha256(content: Buffer | undefined): string | undefined {
  return content === undefined ? undefined : createHash('sha256').update(content).digest('hex');
}

async function versionOf(path: string): Promise<string> {
  try {
    const { mtimeMs, size, ino } = await stat(path);
    return ` ${mtimeMs} ${size} ${ino}`;
  } catch (error) {
    if (isNotFound(error)) return '';
    throw error;
  }
}

async function readIfPresent(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw errnoError(`read ${path}`, errnoOf(error) ?? 'EIO', error);
  }
}
