// SPDX-License-Identifier: Apache-2.0
/** The images of this checkout, made by buildah from stages of the Dockerfile. */
import { cp, link, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildModule } from '../../kernel-module/build.ts';
import { buildAll } from '../../scripts/build.ts';
import { cachedDirectory, cacheRoot, hashFiles, hashOf, repository } from '../../scripts/cache.ts';
import { run, say } from '../../scripts/exec.ts';
import { type KernelSeries, kernelFor } from '../../scripts/kernels.ts';
import { installClusterPackages } from './debian.ts';
import { singleStage } from './dockerfile.ts';
import { makeNewer } from './newer-module.ts';

const repositoryName = 'localhost/ipvs-bpf';
export const moduleRepository = 'localhost/ip-vs-patched';
const moduleFiles = ['ip_vs.ko', 'ipvs_bpf_family_id.ko', 'manifest.json'];
/** Package sources of this machine, and without what no program reads: each node has to unpack the rest. */
const trimBase =
  'cp -a /etc/apt/sources.list* "$0/etc/apt/" && cd "$0" && rm -rf var/cache/apt/* var/lib/apt/lists/* ' +
  'usr/share/doc/* usr/share/man/* usr/share/info/* usr/share/locale/*';
const baseName = 'localhost/ipvs-bpf-base';

export interface OwnImage {
  /** Archive for `ctr images import`. */
  readonly archive: string;
  readonly repository: string;
  /** Names all that went into the image. */
  readonly tag: string;
}

/** The image of operator and agent: builds what is missing. */
export async function ownImage(): Promise<OwnImage> {
  await installClusterPackages();
  await buildAll([]);
  return imageArchive();
}

/** The image with the module of a kernel, tagged with the kernel's release; a newer one has "-2" there. */
export async function moduleImage(series: KernelSeries, age: 'Built' | 'Newer' = 'Built'): Promise<OwnImage> {
  await installClusterPackages();
  const kernel = await kernelFor(series);
  const built = await buildModule(kernel);
  const files = moduleFiles.map((name) => `/${name}`);
  const key = hashOf(
    age,
    await hashFiles(built, files),
    await readFile(join(repository, 'Dockerfile'), 'utf8'),
  );
  const tag = kernel.release.replaceAll('+', '_') + (age === 'Newer' ? '-2' : '');
  const name = `${moduleRepository}:${tag}`;
  const directory = await cachedDirectory(`cluster/images/module_${key.slice(0, 16)}`, (target) =>
    buildImage(name, join(target, 'image.tar'), async (context) => {
      const modules = join(context, 'module-build/module/lib/modules', kernel.release);
      await mkdir(modules, { recursive: true });
      for (const file of moduleFiles) await cp(join(built, file), join(modules, file));
      if (age === 'Newer') await makeNewer(modules);
      return { stage: 'module' };
    }),
  );
  return { archive: join(directory, 'image.tar'), repository: moduleRepository, tag };
}

/**
 * Builds a stage of the Dockerfile and writes it as an archive.
 * @param fill puts what the stage copies into an empty folder, and says which stage it is
 */
async function buildImage(
  name: string,
  archive: string,
  fill: (context: string) => Promise<{ readonly stage?: string; readonly args?: readonly string[] }>,
): Promise<void> {
  const context = await mkdtemp(join(tmpdir(), 'ipvs-bpf-image-'));
  try {
    const { stage, args = [] } = await fill(context);
    const text = await readFile(join(repository, 'Dockerfile'), 'utf8');
    await writeFile(join(context, 'Dockerfile'), singleStage(text, stage));
    say(`building the image ${name}`);
    await buildah(['build', '--layers', ...args.flatMap((arg) => ['--build-arg', arg]), '-t', name, context]);
    await buildah(['push', name, `docker-archive:${archive}:${name}`]);
    await buildah(['rmi', name]);
  } finally {
    await rm(context, { recursive: true, force: true });
  }
}

/** Bytes of all layers of an archive but the first, which is the base's, as the container runtime unpacks them. */
export async function bytesWithoutBase(archive: string): Promise<number> {
  const text = await run('tar', ['-xOf', archive, 'manifest.json']);
  const [image] = JSON.parse(text) as readonly { readonly Layers: readonly string[] }[];
  const listing = await run('tar', ['-tvf', archive]);
  const sizes = new Map(
    listing.split('\n').map((line): [string, number] => {
      const [, , size, , , name = ''] = line.trim().split(/\s+/);
      return [name, Number(size)];
    }),
  );
  const layers = (image?.Layers ?? []).slice(1).map((name) => sizes.get(name));
  const bytes = layers.reduce<number>((sum, size) => sum + (size ?? Number.NaN), 0);
  if (!(bytes > 0)) throw new Error(`${archive}: sizes of its layers not found`);
  return bytes;
}

/** Cached by what goes into it. */
async function imageArchive(): Promise<OwnImage> {
  const copied = [
    'Dockerfile',
    'LICENSE',
    'LICENSES',
    'crds',
    'dist',
    'build/bpf',
    'packages',
    'package-lock.json',
  ];
  const tag = (await hashFiles(`${repository}/`, copied)).slice(0, 16);
  const directory = await cachedDirectory(`cluster/images/deployed_${tag}`, (target) =>
    buildImage(`${repositoryName}:${tag}`, join(target, 'image.tar'), async (context) => {
      await fillContext(context);
      return { args: [`BASE_IMAGE=${await importBase()}`] };
    }),
  );
  return { archive: join(directory, 'image.tar'), repository: repositoryName, tag };
}

/** What the last stage of the Dockerfile copies, from this checkout's own builds. */
async function fillContext(context: string): Promise<void> {
  for (const name of ['LICENSE', 'LICENSES'])
    await cp(join(repository, name), join(context, name), { recursive: true });
  const built = join(context, 'build/opt/ipvs-bpf');
  await mkdir(built, { recursive: true });
  const withoutModules = { recursive: true, filter: (path: string) => !path.endsWith('/node_modules') };
  for (const name of ['packages', 'crds', 'build/bpf', 'dist']) {
    await cp(join(repository, name), join(built, name), withoutModules);
  }
  const modules = join(await runtimeModules(), 'node_modules');
  await run('sh', [
    '-c',
    'mkdir -p "$1" && cp -a "$0" "$1"',
    modules,
    join(context, 'runtime-modules/opt/ipvs-bpf'),
  ]);
}

/** npm packages without those of development. */
async function runtimeModules(): Promise<string> {
  const prune = 'scripts/prune-modules.sh';
  const files = ['package.json', 'package-lock.json', '.npmrc', 'packages/libbpf-ts/package.json', prune];
  const key = (await hashFiles(`${repository}/`, files)).slice(0, 16);
  return cachedDirectory(`cluster/runtime-modules_${key}`, async (directory) => {
    say('installing npm packages for the image');
    for (const file of files) await cp(join(repository, file), join(directory, file));
    await run('npm', ['ci', '--omit=dev', '--ignore-scripts', '--loglevel=error'], { cwd: directory });
    await run(join(directory, prune), ['node_modules'], { cwd: directory });
  });
}

/** Name of a Debian 12 image in our own storage, made by debootstrap with this machine's package sources. */
async function importBase(): Promise<string> {
  const sources = ['/etc/apt/sources.list', '/etc/apt/sources.list.d'];
  const text = await run('sh', ['-c', 'find "$@" -type f 2>/dev/null | sort | xargs cat', 'sh', ...sources]);
  const key = hashOf(text, trimBase).slice(0, 12);
  const tag = `${baseName}:${key}`;
  if ((await buildah(['images', '-q', '--filter', `reference=${tag}`])).trim() !== '') return tag;
  const directory = await cachedDirectory(`cluster/base_${key}`, async (target) => {
    say('making a Debian base with debootstrap');
    const root = join(target, 'root');
    await run('debootstrap', ['--variant=minbase', 'bookworm', root], { timeoutMs: 900_000 });
    await run('sh', ['-c', trimBase, root]);
    await run('tar', ['-c', '-f', join(target, 'base.tar'), '--numeric-owner', '-C', root, '.']);
    await rm(root, { recursive: true });
  });
  const context = await mkdtemp(join(tmpdir(), 'ipvs-bpf-base-'));
  try {
    await link(join(directory, 'base.tar'), join(context, 'base.tar')).catch(() =>
      cp(join(directory, 'base.tar'), join(context, 'base.tar')),
    );
    await writeFile(join(context, 'Dockerfile'), 'FROM scratch\nADD base.tar /\nCMD ["/bin/sh"]\n');
    await buildah(['build', '-t', tag, context]);
  } finally {
    await rm(context, { recursive: true, force: true });
  }
  return tag;
}

function buildah(args: readonly string[]): Promise<string> {
  const storage = [
    '--root',
    join(cacheRoot(), 'cluster/buildah'),
    '--runroot',
    join(cacheRoot(), 'cluster/buildah-run'),
  ];
  const env = { ...process.env, BUILDAH_ISOLATION: 'chroot', STORAGE_DRIVER: 'vfs' };
  return run('buildah', [...storage, ...args], { env });
}
