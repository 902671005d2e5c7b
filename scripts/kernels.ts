// SPDX-License-Identifier: Apache-2.0
/**
 * Debian's kernels: image, headers and source, each by apt and of the same version.
 *
 *   const kernel = await kernelFor('6.1');           // image: to boot, and modules
 *   const vmlinux = await kernelElf(kernel);         // unpacked kernel: to boot, and for the BTF of modules
 *   const headers = await kernelHeaders(kernel);     // '/usr/src/linux-headers-…', installed by apt
 *   const source = await kernelSource(kernel, ['net/netfilter/ipvs', 'include/net/ip_vs.h']);
 *                                                    // directory that holds these paths, cached: do not write there
 */
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { release as osRelease } from 'node:os';
import { join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { cachedDirectory, cacheRoot, hashOf } from './cache.ts';
import { run, say } from './exec.ts';

/** The kernel lines that we support, each with the Debian package that always depends on its newest image. */
const metaPackages = { '6.1': 'linux-image-amd64', '6.12': 'linux-image-6.12-amd64' } as const;

export type KernelSeries = keyof typeof metaPackages;
export const kernelSeries = Object.keys(metaPackages) as KernelSeries[];

/** What a module is built for. */
export interface KernelBuild {
  readonly series: KernelSeries;
  /** As `uname -r` tells it: `6.1.0-56-amd64`. */
  readonly release: string;
  /** Of the Debian package: `6.1.192-2`. */
  readonly version: string;
}

export interface Kernel extends KernelBuild {
  /** The unpacked image package: `boot/vmlinuz-RELEASE`, `lib/modules/RELEASE` with the files of depmod. */
  readonly imageDir: string;
}

/** @throws Error that names the choices, for text that is none of them. */
export function parseSeries(text: string): KernelSeries {
  const found = kernelSeries.find((series) => series === text);
  if (found === undefined) throw new Error(`unknown kernel ${text}: use ${kernelSeries.join(' or ')}`);
  return found;
}

/**
 * The kernel that a machine runs, by what `uname` says of it. Headers and source of just this version are wanted, not
 * the newest ones: a node may not have been rebooted since.
 * @param release `uname -r`; any flavour, `6.1.0-56-cloud-amd64` too
 * @param version `uname -v`, in which Debian writes the version of its package
 * @throws Error if it is no kernel of Debian, or of none of the series that we support
 */
export function kernelOfUname(release: string, version: string): KernelBuild {
  const series = kernelSeries.find((each) => release.startsWith(`${each}.`));
  const [, packageVersion] = /\bDebian (\S+) \(/.exec(version) ?? [];
  if (series === undefined || packageVersion === undefined) {
    throw new Error(
      `the running kernel ${release} (${version}) is not one of Debian's ${kernelSeries.join(' or ')}: ` +
        'kernel-module/README.md tells how to add another',
    );
  }
  return { series, release, version: packageVersion };
}

/** The newest Debian kernel of a series; downloads and unpacks its image if the cache does not have it. */
export async function kernelFor(series: KernelSeries): Promise<Kernel> {
  const { release, version } = await resolve(series);
  return withImage({ series, release, version });
}

async function withImage(kernel: KernelBuild): Promise<Kernel> {
  const { release, version } = kernel;
  const imageDir = await cachedDirectory(`kernels/${release}_${version}`, async (directory) => {
    const name = `linux-image-${release}`;
    say(`downloading ${name} ${version}`);
    await unpackPackage(name, version, directory);
    await run('depmod', ['-b', directory, release]);
  });
  return { ...kernel, imageDir };
}

/** A file with the BTF of a kernel: its own if it is the one that runs here. */
export async function kernelBtf(kernel: KernelBuild): Promise<string> {
  const running = '/sys/kernel/btf/vmlinux';
  if (kernel.release === osRelease() && existsSync(running)) return running;
  return kernelElf(await withImage(kernel));
}

/**
 * The kernel's tool that fills in the numbers of types in a module. Debian has it in linux-kbuild of 6.12 and later,
 * and it is the same for every kernel.
 */
export async function resolveBtfids(): Promise<string> {
  const { release, version } = await resolve('6.12');
  const name = `linux-kbuild-${release.replace(/-[^-]+$/, '')}`;
  const tool = `/usr/lib/${name}/tools/bpf/resolve_btfids/resolve_btfids`;
  if (!existsSync(tool)) await installPackage(name, version);
  return tool;
}

/**
 * The kernel without its decompressor, an ELF file with BTF: QEMU boots it 2 s sooner than vmlinuz, and
 * building BTF for a module needs it.
 */
export async function kernelElf(kernel: Kernel): Promise<string> {
  const directory = await cachedDirectory(`vmlinux/${kernel.release}_${kernel.version}`, async (target) => {
    const bzImage = await readFile(join(kernel.imageDir, 'boot', `vmlinuz-${kernel.release}`));
    await unpackBzImage(bzImage, target);
  });
  return join(directory, 'vmlinux');
}

/** The boot protocol's header (Documentation/x86/boot) tells where the compressed kernel lies. */
async function unpackBzImage(bzImage: Buffer, directory: string): Promise<void> {
  const setupSectors = bzImage.readUInt8(0x1f1);
  const start = (setupSectors + 1) * 512 + bzImage.readUInt32LE(0x248);
  // the last four bytes hold the unpacked size
  const payload = bzImage.subarray(start, start + bzImage.readUInt32LE(0x24c) - 4);
  const file = join(directory, 'vmlinux');
  if (payload.readUInt32LE(0) === 0xfd2fb528) return writeFile(file, zstdDecompressSync(payload));
  await writeFile(`${file}.xz`, payload);
  await run('xz', ['-d', '-q', `${file}.xz`]);
}

/** Installs the headers of a kernel if need be; returns the directory that `make -C` takes. */
export async function kernelHeaders(kernel: KernelBuild): Promise<string> {
  const name = `linux-headers-${kernel.release}`;
  const directory = `/usr/src/${name}`;
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own placeholders
  const installed = await run('dpkg-query', ['-W', '-f', '${Version} ${db:Status-Abbrev}', name]).catch(
    () => '',
  );
  if (installed.trim() !== `${kernel.version} ii`) await installPackage(name, kernel.version);
  if (!existsSync(join(directory, 'Makefile')))
    throw new Error(`${directory} is missing: ${name} is damaged`);
  return directory;
}

async function installPackage(name: string, version: string): Promise<void> {
  say(`installing ${name} ${version}`);
  const options = ['-q', '-y', '--no-install-recommends', '--allow-downgrades'];
  await run('apt-get', [...options, 'install', `${name}=${version}`], {
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  });
}

/**
 * Paths out of the kernel's source package of exactly the image's version, in a cached directory.
 * @param paths files or folders relative to the top of the kernel source
 */
export async function kernelSource(kernel: KernelBuild, paths: readonly string[]): Promise<string> {
  const key = hashOf(...[...paths].sort()).slice(0, 12);
  return cachedDirectory(`sources/${kernel.series}_${kernel.version}_${key}`, async (directory) => {
    const name = `linux-source-${kernel.series}`;
    const versions = await packageVersions(name);
    if (!versions.includes(kernel.version)) {
      throw new Error(
        `no ${name} of version ${kernel.version}, which linux-image-${kernel.release} has; ` +
          `apt offers ${versions.join(', ') || 'none'}. Run apt-get update, or wait until both are published.`,
      );
    }
    say(`downloading ${name} ${kernel.version}`);
    const unpacked = join(directory, 'package');
    await unpackPackage(name, kernel.version, unpacked);
    say(`unpacking ${paths.join(' ')}`);
    const members = paths.map((path) => `${name}/${path}`);
    const tarball = join(unpacked, 'usr/src', `${name}.tar.xz`);
    await run('tar', ['-x', '-J', '-f', tarball, '-C', directory, '--strip-components=1', ...members]);
    await run('rm', ['-rf', unpacked]);
  });
}

async function packageVersions(name: string): Promise<string[]> {
  const table = await run('apt-cache', ['madison', name]);
  return table.split('\n').flatMap((line) => line.split('|')[1]?.trim() ?? []);
}

async function unpackPackage(name: string, version: string, directory: string): Promise<void> {
  const download = join(directory, 'download');
  await mkdir(download, { recursive: true });
  // apt's own unprivileged user may not be able to write to the cache
  await run('apt-get', ['-q', '-o', 'APT::Sandbox::User=root', 'download', `${name}=${version}`], {
    cwd: download,
  });
  const [deb] = (await run('find', [download, '-name', '*.deb'])).split('\n');
  await run('dpkg-deb', ['-x', deb ?? '', directory]);
  await run('rm', ['-rf', download]);
}

interface Resolved {
  /** When apt's package lists last changed; an answer is good until they change again. */
  readonly listsChanged: number;
  readonly release: string;
  readonly version: string;
}

/** Which image the meta-package stands for. Asking apt takes a second or two, so the answer is kept. */
async function resolve(series: KernelSeries): Promise<Resolved> {
  const file = join(cacheRoot(), 'kernels', `newest-${series}.json`);
  const kept = existsSync(file) ? (JSON.parse(await readFile(file, 'utf8')) as Resolved) : undefined;
  const listsChanged = (await stat('/var/lib/apt/lists')).mtimeMs;
  if (kept?.listsChanged === listsChanged) return kept;
  const found = (await askApt(series)) ?? (await updateAndAskApt(series));
  const resolved = { listsChanged: (await stat('/var/lib/apt/lists')).mtimeMs, ...found };
  await mkdir(join(cacheRoot(), 'kernels'), { recursive: true });
  await writeFile(`${file}.${process.pid}`, JSON.stringify(resolved));
  await rename(`${file}.${process.pid}`, file);
  return resolved;
}

async function askApt(series: KernelSeries): Promise<{ release: string; version: string } | undefined> {
  const text = await run('apt-cache', ['--no-all-versions', 'show', metaPackages[series]]).catch(() => '');
  const [, release, version] = /^Depends: linux-image-(\S+) \(= ([^)]+)\)/m.exec(text) ?? [];
  return release === undefined || version === undefined ? undefined : { release, version };
}

async function updateAndAskApt(series: KernelSeries): Promise<{ release: string; version: string }> {
  say('apt-get update');
  await run('apt-get', ['-q', 'update']);
  const found = await askApt(series);
  if (found === undefined)
    throw new Error(`apt knows no ${metaPackages[series]}: is this Debian 12 with security updates?`);
  return found;
}
