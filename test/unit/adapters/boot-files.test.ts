// SPDX-License-Identifier: Apache-2.0
/** The files that a boot reads, and the script among them, run by shells with programs that only tell what they do. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HostBootFiles } from '../../../src/adapters/boot-files.ts';
import { moduleFile } from '../../fakes/module-file.ts';

const BOOT = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
const MODULE = moduleFile(
  'srcversion=ABC',
  'depends=nf_conntrack,libcrc32c',
  'name=ip_vs',
  'vermagic=6.1 SMP',
);

let root: string;
let directory: string;
let files: HostBootFiles;

function program(name: string, text: string): void {
  const path = join(root, 'programs', name);
  writeFileSync(path, `#!/bin/sh\necho "${name} $*" >>"${root}/calls"\n${text}\n`);
  chmodSync(path, 0o755);
}

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "it's a host-"));
  directory = join(root, 'state/boot');
  for (const path of ['programs', 'etc/modules-load.d', 'etc/modprobe.d']) {
    mkdirSync(join(root, path), { recursive: true });
  }
  writeFileSync(join(root, 'built.ko'), MODULE);
  program('modprobe', 'exit 0');
  program('insmod', 'exit 0');
  program('sleep', 'exit 0');
  files = new HostBootFiles({ root, directory });
});
afterEach(() => rmSync(root, { recursive: true }));

const arm = (kernelRelease = release()) =>
  files.arm({ file: join(root, 'built.ko'), srcversion: 'ABC', kernelRelease, bootId: 'the-boot-before' });
const calls = (): readonly string[] =>
  existsSync(join(root, 'calls')) ? readFileSync(join(root, 'calls'), 'utf8').trim().split('\n') : [];

/** As modprobe does for its line, in a shell. */
function boot(shell = 'sh', options = 'conn_tab_bits=20'): number | null {
  rmSync(join(root, 'calls'), { force: true });
  const text = readFileSync(join(root, 'etc/modprobe.d/ipvs-bpf.conf'), 'utf8');
  const command = /^install ip_vs (.*)$/m.exec(text)?.[1] ?? '';
  const line = command.replaceAll('$CMDLINE_OPTS', options);
  const run = spawnSync(shell, ['-c', line], {
    encoding: 'utf8',
    env: { PATH: `${join(root, 'programs')}:/usr/bin:/bin` },
  });
  return run.status;
}

const LOADED = [
  'modprobe nf_conntrack',
  'modprobe libcrc32c',
  expect.stringMatching(/^insmod .*\/boot\/ip_vs\.ko conn_tab_bits=20$/),
];
const FALLEN_BACK = 'modprobe --ignore-install ip_vs conn_tab_bits=20';

describe('a boot', () => {
  it.each(['sh', 'bash'])(
    'loads what the module needs, and the module, with its options (%s)',
    async (shell) => {
      await arm();
      expect(boot(shell)).toBe(0);
      expect(calls()).toEqual(LOADED);
      expect(await files.state()).toMatchObject({
        unconfirmed: BOOT,
        last: { bootId: BOOT, result: 'Loaded', message: 'ABC' },
      });
      expect(readFileSync(join(root, 'etc/modules-load.d/ipvs-bpf.conf'), 'utf8')).toMatch(/^ip_vs$/m);
    },
  );

  it('leaves its mark before the module is loaded', async () => {
    await arm();
    program('insmod', `cat "${directory}/attempt" >>"${root}/calls"`);
    boot();
    expect(calls().at(-1)).toBe(BOOT);
  });

  it('loads it a second time in the same boot, and in the next once it was confirmed', async () => {
    await arm();
    boot();
    boot();
    expect(calls()).toEqual(LOADED);
    await files.confirm();
    expect((await files.state()).unconfirmed).toBeUndefined();
    boot();
    expect(calls()).toEqual(LOADED);
  });

  it.each([
    ['FileMissing', () => rmSync(join(directory, 'ip_vs.ko'))],
    ['FileMissing', () => rmSync(join(directory, 'module'))],
    ['DigestMismatch', () => writeFileSync(join(directory, 'ip_vs.ko'), 'something else')],
    ['Unconfirmed', () => writeFileSync(join(directory, 'attempt'), 'another-boot\n')],
    // The power went while it was written.
    ['Unconfirmed', () => writeFileSync(join(directory, 'attempt'), '')],
    ['InsertFailed', () => program('insmod', 'echo "Key was rejected" >&2; exit 1')],
    ['InsertFailed', () => program('modprobe', 'echo no >&2; [ "$1" != libcrc32c ]')],
  ])("loads the kernel's own module instead, and says why: %s (%#)", async (result, happen) => {
    await arm();
    happen();
    expect(boot()).toBe(0);
    expect(calls().at(-1)).toBe(FALLEN_BACK);
    expect((await files.state()).last).toMatchObject({ bootId: BOOT, result });
  });

  it("of another kernel loads the kernel's own", async () => {
    await arm('5.10.0-other');
    boot();
    expect(calls()).toEqual([FALLEN_BACK]);
    expect((await files.state()).last?.result).toBe('OtherKernel');
  });

  it("ends with the status that the kernel's own module gives", async () => {
    await arm();
    rmSync(join(directory, 'ip_vs.ko'));
    program('modprobe', 'exit 3');
    expect(boot()).toBe(3);
  });

  it('says what the kernel said, and is no danger for the next', async () => {
    await arm();
    program('insmod', 'printf "insmod: ERROR:\\nKey was rejected\\n" >&2; exit 1');
    boot();
    expect((await files.state()).last?.message).toBe('insmod: ERROR: Key was rejected');
    expect((await files.state()).unconfirmed).toBeUndefined();
  });

  it("stays with the kernel's own until somebody has looked", async () => {
    await arm();
    writeFileSync(join(directory, 'attempt'), 'another-boot\n');
    boot();
    boot();
    expect(calls()).toEqual([FALLEN_BACK]);
  });

  it('waits for a file system that takes writes, and not for ever', async () => {
    await arm();
    // A directory in the place of the mark: it cannot be written, like all on a read-only file system.
    mkdirSync(join(directory, 'attempt'));
    program(
      'cat',
      'case $1 in */attempt) echo "$BOOT" ;; *) exec /usr/bin/cat "$@" ;; esac'.replace('$BOOT', BOOT),
    );
    boot();
    expect(calls().filter((call) => call === 'sleep 1')).toHaveLength(20);
    expect(calls().at(-1)).toBe(FALLEN_BACK);
    program('sleep', `rmdir "${directory}/attempt"`);
    boot();
    expect(calls().at(-1)).toMatch(/^insmod /);
  });

  it('waits for the directory, which may be mounted later, and not for ever', async () => {
    await arm();
    const elsewhere = join(root, 'elsewhere');
    spawnSync('mv', [directory, elsewhere]);
    boot();
    expect(calls()).toEqual([...Array.from({ length: 20 }, () => 'sleep 1'), FALLEN_BACK]);
    program('sleep', `[ -e "${directory}" ] || mv "${elsewhere}" "${directory}"`);
    boot();
    expect(calls().at(-1)).toMatch(/^insmod /);
  });
});

describe('the files', () => {
  const names = (path: string) => readdirSync(join(root, path)).sort();

  it('are private, but for those that modprobe and systemd read, and leave no others', async () => {
    await arm();
    expect(names('etc/modprobe.d')).toEqual(['ipvs-bpf.conf']);
    expect(names('etc/modules-load.d')).toEqual(['ipvs-bpf.conf']);
    expect(names('state/boot')).toEqual(['ip_vs.ko', 'load-module', 'module']);
    await files.disarm();
    expect(names('etc/modprobe.d')).toEqual([]);
    expect(names('etc/modules-load.d')).toEqual([]);
    expect(names('state')).toEqual([]);
  });

  it('of a write that was cut short are removed, too', async () => {
    writeFileSync(join(root, 'etc/modprobe.d/ipvs-bpf.conf.new'), 'install');
    mkdirSync(directory, { recursive: true });
    expect((await files.state()).present).toBe(true);
    await files.disarm();
    expect(names('etc/modprobe.d')).toEqual([]);
    expect((await files.state()).present).toBe(false);
  });

  it('are not armed if the copy of the module has changed', async () => {
    await arm();
    expect((await files.state()).armed).toBeDefined();
    writeFileSync(join(directory, 'ip_vs.ko'), 'something else');
    expect((await files.state()).armed).toBeUndefined();
  });

  it('are told to need what the host does not have', async () => {
    rmSync(join(root, 'etc/modules-load.d'), { recursive: true });
    mkdirSync(join(root, 'usr/sbin'), { recursive: true });
    // As Debian has it: the link is right on the host, whatever it means here.
    symlinkSync('/nowhere/kmod', join(root, 'usr/sbin/modprobe'));
    const { missing } = await files.state();
    expect(missing).toEqual([
      'there is no directory /etc/modules-load.d',
      'there is no program insmod',
      'there is no program sha256sum',
      'there is no program sync',
      'there is no systemd-modules-load, which reads modules-load.d',
    ]);
  });
});
