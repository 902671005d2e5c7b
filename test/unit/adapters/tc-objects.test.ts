// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TcObjects } from '../../../src/adapters/tc-objects.ts';

let directory: string;
let objects: TcObjects;
const file = (name: string, text: string) => writeFile(join(directory, name), text);

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tc-objects-'));
  objects = new TcObjects({ path: join(directory, 'tc.bpf.o'), controls: directory, module: directory });
  await file('tc.bpf.o', 'plain');
  await file('tc_kfuncs.bpf.o', 'calling');
});
afterEach(() => rm(directory, { recursive: true }));

describe('the objects of tc programs', () => {
  it('are one where the module offers no kfuncs', async () => {
    expect(await objects.plain()).toMatchObject({ path: join(directory, 'tc.bpf.o'), usesModule: false });
    expect(await objects.calling()).toBeUndefined();
    await file('bpf_kfuncs', '0\n');
    expect(await objects.calling()).toBeUndefined();
  });

  it('are two where it does, and another pair with another module or file', async () => {
    await file('bpf_kfuncs', '1\n');
    const pairs: unknown[] = [];
    const look = async () => void pairs.push((await objects.calling())?.pair);
    await look();
    await file('srcversion', 'FIRST\n');
    await look();
    await file('srcversion', 'SECOND\n');
    await look();
    await file('tc_kfuncs.bpf.o', 'newer');
    await look();
    expect(new Set(pairs).size).toBe(4);
    expect(pairs).not.toContain(undefined);
    expect(await objects.calling()).toMatchObject({
      path: join(directory, 'tc_kfuncs.bpf.o'),
      usesModule: true,
    });
  });

  it('name the file that is missing', async () => {
    await file('bpf_kfuncs', '1\n');
    await rm(join(directory, 'tc_kfuncs.bpf.o'));
    await expect(objects.calling()).rejects.toThrow(/tc_kfuncs.*ENOENT/);
  });
});
