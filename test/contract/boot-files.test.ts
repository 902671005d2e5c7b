// SPDX-License-Identifier: Apache-2.0
/** What a boot reads: no kernel is needed, so that the adapter is always tested, too, on a tree of its own. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HostBootFiles } from '../../src/adapters/boot-files.ts';
import type { BootFiles } from '../../src/boot-ports.ts';
import { FAKE_RELEASE } from '../fakes/fake-kernel-modules.ts';
import { fakeMachine, PATCHED_SRCVERSION } from '../fakes/fake-machine.ts';
import { moduleFile } from '../fakes/module-file.ts';
import type { Subject } from './subject.ts';

interface Outside {
  /** Path of a module with PATCHED_SRCVERSION. */
  readonly file: string;
  /** A boot that loads what it finds. */
  boot(bootId: string): void;
  /** Somebody edits one of the files. */
  damage(): void;
  /** Everything that is there, as paths. */
  list(): readonly string[];
}

function fakeSubject(): Subject<BootFiles, Outside> {
  const { boot, patchedModule } = fakeMachine();
  const outside: Outside = {
    file: patchedModule,
    boot: (bootId) => boot.boot(bootId),
    damage: () => {
      boot.damaged = true;
    },
    list: () => (boot.isArmed ? ['something'] : []),
  };
  return { port: boot, outside, cleanup: async () => undefined };
}

/** A host that has all that it needs. */
function treeSubject(): Subject<BootFiles, Outside> {
  const root = mkdtempSync(join(tmpdir(), 'host-'));
  for (const path of [
    'etc/modules-load.d',
    'etc/modprobe.d',
    'usr/sbin',
    'usr/bin',
    'usr/lib/systemd',
    'state',
  ]) {
    mkdirSync(join(root, path), { recursive: true });
  }
  for (const path of [
    'sbin/modprobe',
    'sbin/insmod',
    'bin/sha256sum',
    'bin/sync',
    'lib/systemd/systemd-modules-load',
  ]) {
    writeFileSync(join(root, 'usr', path), '');
  }
  const file = join(root, 'built.ko');
  writeFileSync(
    file,
    moduleFile(`srcversion=${PATCHED_SRCVERSION}`, 'depends=a,b', 'name=ip_vs', 'vermagic=6.1 SMP'),
  );
  const directory = join(root, 'state/boot');
  const outside: Outside = {
    file,
    boot: (bootId) => {
      writeFileSync(join(directory, 'attempt'), `${bootId}\n`);
      writeFileSync(join(directory, 'outcome'), `${bootId} Loaded ${PATCHED_SRCVERSION}\n`);
    },
    damage: () => writeFileSync(join(root, 'etc/modprobe.d/ipvs-bpf.conf'), 'install ip_vs /bin/true\n'),
    list: () =>
      ['etc', 'state'].flatMap((below) =>
        readdirSync(join(root, below), { recursive: true, withFileTypes: true })
          .filter((entry) => entry.isFile())
          .map(({ name }) => name),
      ),
  };
  const port = new HostBootFiles({ root, directory });
  return { port, outside, cleanup: async () => rmSync(root, { recursive: true }) };
}

const MODULE = { srcversion: PATCHED_SRCVERSION, kernelRelease: FAKE_RELEASE, bootId: 'b1' };

describe.each([
  { name: 'fake', make: fakeSubject },
  { name: 'files', make: treeSubject },
])('BootFiles ($name)', ({ make }) => {
  let files: BootFiles;
  let outside: Outside;
  let cleanup: () => Promise<void>;
  beforeEach(() => {
    ({ port: files, outside, cleanup } = make());
  });
  afterEach(() => cleanup());

  it('are not there at first, and may be removed all the same', async () => {
    await files.disarm();
    expect(await files.state()).toEqual({ missing: [], present: false });
  });

  it('are there when a node is armed, and gone when it is no longer', async () => {
    await files.arm({ ...MODULE, file: outside.file });
    expect(await files.state()).toEqual({ missing: [], present: true, armed: MODULE });
    await files.arm({ ...MODULE, file: outside.file, bootId: 'b2' });
    expect((await files.state()).armed).toEqual({ ...MODULE, bootId: 'b2' });
    await files.disarm();
    expect(await files.state()).toEqual({ missing: [], present: false });
    expect(outside.list()).toEqual([]);
  });

  it('tell what a boot did, until it is confirmed or the node is armed again', async () => {
    await files.arm({ ...MODULE, file: outside.file });
    outside.boot('b2');
    const last = { bootId: 'b2', result: 'Loaded', message: PATCHED_SRCVERSION };
    expect(await files.state()).toEqual({
      missing: [],
      present: true,
      armed: MODULE,
      unconfirmed: 'b2',
      last,
    });
    await files.confirm();
    await files.confirm();
    expect(await files.state()).toEqual({ missing: [], present: true, armed: MODULE, last });
    outside.boot('b3');
    await files.arm({ ...MODULE, file: outside.file });
    expect(await files.state()).toEqual({ missing: [], present: true, armed: MODULE });
  });

  it('are not written for a file that is another one, or is not there', async () => {
    const other = files.arm({ ...MODULE, file: outside.file, srcversion: 'OTHER' });
    await expect(other).rejects.toMatchObject({ code: 'ModuleInvalid' });
    expect((await files.state()).armed).toBeUndefined();
    const none = files.arm({ ...MODULE, file: '/nosuch.ko' });
    await expect(none).rejects.toMatchObject({ code: 'NotFound' });
    expect((await files.state()).armed).toBeUndefined();
    await files.disarm();
    expect((await files.state()).present).toBe(false);
  });

  it('arm nothing when somebody has changed them', async () => {
    await files.arm({ ...MODULE, file: outside.file });
    outside.damage();
    const state = await files.state();
    expect(state).toMatchObject({ present: true });
    expect(state.armed).toBeUndefined();
    outside.boot('b2');
    expect((await files.state()).last).toMatchObject({ bootId: 'b2' });
    await files.disarm();
    expect((await files.state()).present).toBe(false);
  });
});
