// SPDX-License-Identifier: GPL-2.0-only
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { copyFile, cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { cachedDirectory, hashFiles, repository } from '../scripts/cache.ts';
import { run, say } from '../scripts/exec.ts';
import {
  type KernelBuild,
  kernelBtf,
  kernelHeaders,
  kernelSource,
  resolveBtfids,
} from '../scripts/kernels.ts';
import { applyHook, hooks } from './hooks.ts';

const upstream = ['net/netfilter/ipvs', 'include/net/ip_vs.h'];
const ownFiles = [
  'kernel-module/Kbuild',
  'kernel-module/ip_vs_bpf.c',
  'kernel-module/ip_vs_bpf.h',
  'kernel-module/ip_vs_bpf_control.c',
  'kernel-module/ip_vs_bpf_internal.h',
  'kernel-module/ip_vs_bpf_flow.c',
  'kernel-module/ip_vs_bpf_flow.h',
  'kernel-module/ip_vs_bpf_forward.c',
  'kernel-module/ip_vs_bpf_hooks.c',
  'kernel-module/ip_vs_bpf_ipv6.c',
  'kernel-module/ip_vs_bpf_kfuncs.c',
  'kernel-module/ip_vs_bpf_native.c',
  'kernel-module/ip_vs_bpf_path.c',
  'kernel-module/ip_vs_bpf_reply.c',
  'kernel-module/ip_vs_bpf_route.c',
  'kernel-module/ip_vs_bpf_session.c',
  'kernel-module/ip_vs_bpf_timer.c',
  'kernel-module/ip_vs_bpf_translate.c',
  'kernel-module/ip_vs_bpf_transport.c',
  'kernel-module/ipvs_bpf_family_id.c',
  'bpf/abi.h',
];
const inputs = [...ownFiles, 'kernel-module/hooks.ts', 'kernel-module/build.ts'];
/** ip_vs, and what gives its netlink family the id back that it had before. */
const modules = ['ip_vs.ko', 'ipvs_bpf_family_id.ko'];
const results = [...modules, 'ip_vs.patch', 'Module.symvers', 'manifest.json'];

/** A minute's work on a usual machine; a node may be slow, and busy with other things. */
const COMPILE_LIMIT_MS = 3_600_000;

/** What build/RELEASE/manifest.json holds. */
export interface Manifest {
  readonly kernelRelease: string;
  /** Version of the Debian source package that net/netfilter/ipvs was taken from. */
  readonly sourceVersion: string;
  /** Of the patch that the hooks make of the upstream files (ip_vs.patch). */
  readonly patchSha256: string;
  /** As `modinfo` tells it; /sys/module/ip_vs/srcversion once it is loaded. */
  readonly srcversion: string;
  readonly vermagic: string;
  /** Of ip_vs.ko. */
  readonly sha256: string;
  /** Of ipvs_bpf_family_id.ko. */
  readonly familyIdSha256: string;
}

/**
 * Build the patched ip_vs for a kernel, or take it from the cache.
 * @returns the directory with ip_vs.ko, ipvs_bpf_family_id.ko, ip_vs.patch, Module.symvers and manifest.json:
 *   build/RELEASE
 */
export async function buildModule(kernel: KernelBuild): Promise<string> {
  const key = (await hashFiles(`${repository}/`, inputs)).slice(0, 16);
  const built = await cachedDirectory(`modules/${kernel.release}_${kernel.version}_${key}`, (directory) =>
    compile(kernel, directory),
  );
  const target = join(repository, 'build', kernel.release);
  await mkdir(target, { recursive: true });
  for (const name of results) await copyFile(join(built, name), join(target, name));
  return target;
}

async function compile(kernel: KernelBuild, directory: string): Promise<void> {
  const headers = await kernelHeaders(kernel);
  const source = await kernelSource(kernel, upstream);
  const tree = join(directory, 'tree');
  await cp(join(source, 'net/netfilter/ipvs'), tree, { recursive: true });
  await mkdir(join(tree, 'include/net'), { recursive: true });
  await cp(join(source, 'include/net/ip_vs.h'), join(tree, 'include/net/ip_vs.h'));
  for (const file of ownFiles) await cp(join(repository, file), join(tree, basename(file)));
  await patch(source, tree, directory);
  say(`building ip_vs for ${kernel.release}`);
  // The same wherever the cache is: no path of it in __FILE__ or, by the build id, in debugging information. Not the
  // same bytes each time: with several jobs pahole, before 1.27, orders the types of BTF by chance.
  const flags = `KCFLAGS=-ffile-prefix-map=${tree}=.`;
  const options = ['-s', '-C', headers, `M=${tree}`, `-j${cpus().length}`, flags];
  await run('make', [...options, 'modules'], { timeoutMs: COMPILE_LIMIT_MS });
  await addTypes(kernel, headers, join(tree, 'ip_vs.ko'));
  for (const module of modules) {
    await run('strip', ['--strip-debug', join(tree, module)]);
    await copyFile(join(tree, module), join(directory, module));
  }
  await copyFile(join(tree, 'Module.symvers'), join(directory, 'Module.symvers'));
  await writeManifest(kernel, directory);
  await rm(tree, { recursive: true });
}

/**
 * Puts BTF into the module, without which the kernel offers none of its kfuncs to programs. Kbuild has done it if the
 * headers hold the kernel's own BTF, as they do since 6.12.
 */
async function addTypes(kernel: KernelBuild, headers: string, module: string): Promise<void> {
  if (existsSync(join(headers, 'vmlinux'))) return;
  const base = await kernelBtf(kernel);
  await run('pahole', ['-J', '--btf_gen_floats', '--btf_base', base, module]);
  await run(await resolveBtfids(), ['-b', base, module]);
}

/** Put the hooks into the copy of the upstream files, and say what that changed, as a patch. */
async function patch(source: string, tree: string, directory: string): Promise<void> {
  let text = '';
  for (const file of new Set(hooks.map((hook) => hook.file))) {
    const copy = join(tree, file.startsWith('include/') ? file : basename(file));
    let content = await readFile(copy, 'utf8');
    for (const hook of hooks.filter((one) => one.file === file)) content = applyHook(content, hook);
    await writeFile(copy, content);
    text += await diff(join(source, file), copy, file);
  }
  await writeFile(join(directory, 'ip_vs.patch'), text);
}

/** `diff` ends with 1 if the files differ, as they do. */
async function diff(before: string, after: string, name: string): Promise<string> {
  const command = 'diff -u --label "a/$3" --label "b/$3" "$1" "$2"; [ $? = 1 ]';
  return run('sh', ['-c', command, 'diff', before, after, name], { cwd: dirname(before) });
}

async function writeManifest(kernel: KernelBuild, directory: string): Promise<void> {
  const module = join(directory, 'ip_vs.ko');
  const field = async (name: string) => (await run('modinfo', ['-F', name, module])).trim();
  const manifest: Manifest = {
    kernelRelease: kernel.release,
    sourceVersion: kernel.version,
    patchSha256: await sha256(join(directory, 'ip_vs.patch')),
    srcversion: await field('srcversion'),
    vermagic: await field('vermagic'),
    sha256: await sha256(module),
    familyIdSha256: await sha256(join(directory, 'ipvs_bpf_family_id.ko')),
  };
  await writeFile(join(directory, 'manifest.json'), `${JSON.stringify(manifest, undefined, 2)}\n`);
}

async function sha256(file: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(file))
    .digest('hex');
}
