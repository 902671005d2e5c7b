// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  BpfMap,
  BpfProgram,
  be16,
  be32,
  encode,
  libbpfVersion,
  openObject,
  setLogHandler,
  u32,
  u64,
  unpin,
} from '../../src/index.ts';
import { bpfError, loadBasic, objectPath } from './fixture.ts';

const PIN = '/sys/fs/bpf/libbpf-ts-map';
const PROGRAM_PIN = '/sys/fs/bpf/libbpf-ts-program';

const removePins = () => {
  for (const path of [PIN, PROGRAM_PIN]) unpin(path);
};
beforeEach(removePins);
afterEach(removePins);

it('tells the version of libbpf', () => {
  expect(libbpfVersion()).toMatch(/^v1\.\d+/);
});

describe('an opened object', () => {
  it('lists maps, programs and global variables', () => {
    using opened = openObject(objectPath('basic'));
    expect(opened.programNames).toEqual(['count', 'grow', 'sample']);
    expect(opened.mapNames).toContain('flows');
    expect([...opened.globalNames].sort()).toEqual([
      'answer',
      'enabled',
      'label',
      'ranges',
      'seen',
      'total',
      'wide',
    ]);
  });

  it('sets read-only data that the program sees', () => {
    using opened = openObject(objectPath('basic'));
    opened.setGlobal('answer', 42);
    opened.setGlobal('enabled', true);
    opened.setGlobal('wide', 2n ** 63n);
    opened.setGlobal('label', Buffer.from('renamed\0'));
    opened.setGlobal('ranges', [
      { first: 1, last: 2 },
      { first: 3, last: 4444 },
    ]);
    opened.setGlobal('total', encode(u32, 100));
    expect(opened.getGlobal('wide')).toBe(2n ** 63n);
    using object = opened.load();
    const result = object.program('count').run({ data: new Uint8Array(14), context: new Uint8Array(192) });
    expect(result.retval).toBe(42);
    expect(new DataView(result.context.buffer).getUint32(48, true)).toBe(4444);
    expect(object.getGlobal('label')).toEqual(new Uint8Array(Buffer.from('renamed\0')));
    expect([object.getGlobal('seen'), object.getGlobal('total')]).toEqual([1n, 101]);
  });

  it('refuses variables that are not there and values that do not fit', () => {
    using opened = openObject(objectPath('basic'));
    expect(bpfError(() => opened.setGlobal('nothing', 1))).toMatchObject({
      code: 'ENOENT',
      subject: 'nothing',
    });
    expect(() => opened.setGlobal('answer', 2 ** 32)).toThrow(RangeError);
    expect(() => opened.setGlobal('ranges', new Uint8Array(7))).toThrow('has 8 bytes, the value 7');
  });

  it('sets the size of a map', () => {
    using opened = openObject(objectPath('basic'));
    opened.map('flows').setMaxEntries(77);
    expect(opened.map('flows')).toMatchObject({ type: 'hash', keySize: 20, maxEntries: 77, flags: 0 });
    using object = opened.load();
    expect(object.map('flows').info).toMatchObject({ name: 'flows', type: 'hash', maxEntries: 77 });
  });

  it('leaves out programs that are not wanted', () => {
    using opened = openObject(objectPath('basic'));
    opened.setAutoload('grow', false);
    using object = opened.load();
    expect(bpfError(() => object.program('grow'))).toMatchObject({ subject: 'grow' });
    expect(object.program('count').info.type).toBe('sched_cls');
  });

  it('cannot be used after load or close, and closes more than once', () => {
    const opened = openObject(objectPath('basic'));
    const settings = opened.map('flows');
    using object = opened.load();
    expect(bpfError(() => opened.load()).code).toBe('EBADF');
    expect(bpfError(() => settings.maxEntries).code).toBe('EBADF');
    opened.close();
    opened.close();
    expect(object.map('flows').info.name).toBe('flows');
  });
});

describe('pinning', () => {
  it('creates the map at its pin path, and uses it again on the next load', () => {
    const load = () => {
      const opened = openObject(objectPath('basic'));
      opened.map('recent').setPinPath(PIN);
      return opened.load();
    };
    using first = load();
    first.map('recent').typed(u32, u64).put(1, 10n);
    using second = load();
    expect(second.map('recent').id).toBe(first.map('recent').id);
    expect(second.map('recent').typed(u32, u64).get(1)).toBe(10n);
  });

  it('refuses a pinned map that does not fit', () => {
    using first = loadBasic();
    first.map('slots').pin(PIN);
    using opened = openObject(objectPath('basic'));
    opened.map('recent').setPinPath(PIN);
    const error = bpfError(() => opened.load());
    expect(error).toMatchObject({ code: 'EINVAL' });
    expect(error.log.join('\n')).toContain('recent');
  });

  it('reuses a map that is open, unless it differs', () => {
    using first = loadBasic();
    using opened = openObject(objectPath('basic'));
    opened.map('flows').reuse(first.map('flows'));
    const error = bpfError(() => opened.map('recent').reuse(first.map('slots')));
    expect(error.message).toContain('type is lru_hash here and array there');
    using second = opened.load();
    expect(second.map('flows').id).toBe(first.map('flows').id);
    expect(second.map('recent').id).not.toBe(first.map('recent').id);
  });

  it('opens maps and programs by pin and by id, after the object is closed', () => {
    const object = loadBasic();
    const ids = { map: object.map('flows').id, program: object.program('count').id };
    object.map('flows').pin(PIN);
    object.program('count').pin(PROGRAM_PIN);
    expect(bpfError(() => object.map('flows').pin(PIN))).toMatchObject({ code: 'EEXIST', subject: PIN });
    object.close();

    using map = BpfMap.openPinned(PIN);
    using program = BpfProgram.openPinned(PROGRAM_PIN);
    expect({ map: map.id, program: program.id }).toEqual(ids);
    using mapById = BpfMap.openById(map.id);
    using programById = BpfProgram.openById(program.id);
    expect([mapById.info, programById.info]).toEqual([map.info, program.info]);
    expect(map.typedByBtf({ __be16: be16, __be32: be32 }).count()).toBe(0);

    expect([unpin(PIN), unpin(PIN), existsSync(PIN)]).toEqual([true, false, false]);
  });

  it('says what it found instead of what was asked for', () => {
    using object = loadBasic();
    object.map('flows').pin(PIN);
    expect(bpfError(() => BpfProgram.openPinned(PIN))).toMatchObject({ code: 'EINVAL', subject: PIN });
    expect(bpfError(() => BpfMap.openPinned(PROGRAM_PIN))).toMatchObject({ code: 'ENOENT' });
    expect(bpfError(() => BpfMap.openById(0x7fff_ffff)).code).toBe('ENOENT');
  });
});

describe('a loaded object', () => {
  it('describes its programs', () => {
    using object = loadBasic();
    const { info } = object.program('count');
    expect(info).toMatchObject({ name: 'count', type: 'sched_cls' });
    expect(info.tag).toMatch(/^[0-9a-f]{16}$/);
    expect(info.mapIds).toContain(object.map('counters').id);
    expect(info.verifiedInstructions).toBeGreaterThan(10);
  });

  it('has unusable handles after close(), which may be called again', () => {
    const object = loadBasic();
    const [map, program] = [object.map('slots'), object.program('count')];
    const slots = map.typed(u32, u64);
    object.close();
    object.close();
    for (const use of [() => slots.get(0), () => program.run(), () => object.map('slots'), () => map.fd]) {
      expect(bpfError(use).code).toBe('EBADF');
    }
    expect(map.info.name).toBe('slots');
  });

  it('names what is there when asked for what is not', () => {
    using object = loadBasic();
    expect(bpfError(() => object.map('flow')).message).toContain('has only counters, samples, flows');
    expect(bpfError(() => object.program('flow')).message).toContain('has only count, grow, sample');
  });
});

describe('failures', () => {
  it('carry the verifier log of a rejected program', () => {
    const error = bpfError(() => openObject(objectPath('rejected')).load());
    expect(error).toMatchObject({ operation: 'bpf_object__load', code: 'EACCES' });
    expect(error.message).toContain("prog 'unbounded'");
    expect(error.verifierLog).toContain('invalid access to packet');
  });

  it('name the file that cannot be opened', () => {
    const missing = bpfError(() => openObject('/nowhere/at-all.o'));
    expect(missing).toMatchObject({ code: 'ENOENT', subject: '/nowhere/at-all.o', verifierLog: undefined });
    expect(bpfError(() => openObject(import.meta.filename)).code).toBe('LIBBPF_FORMAT');
  });

  it('send messages of every level to the handler, and survive one that throws', () => {
    const lines: string[] = [];
    setLogHandler((level, message) => lines.push(`${level} ${message}`));
    bpfError(() => openObject('/nowhere/at-all.o'));
    expect(lines).toEqual([
      'debug libbpf: loading object from /nowhere/at-all.o',
      'warn libbpf: elf: failed to open /nowhere/at-all.o: No such file or directory',
    ]);
    const warnings: Error[] = [];
    const collect = (warning: Error) => warnings.push(warning);
    process.once('warning', collect);
    setLogHandler(() => {
      throw new Error('from the handler');
    });
    expect(bpfError(() => openObject('/nowhere/at-all.o')).code).toBe('ENOENT');
    setLogHandler(undefined);
    return new Promise((resolve) => setImmediate(resolve)).then(() => {
      process.off('warning', collect);
      expect(warnings[0]?.message).toBe('from the handler');
    });
  });
});
