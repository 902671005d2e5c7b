// SPDX-License-Identifier: Apache-2.0
import { chmod, copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { cachedDirectory, hashOf } from '../../scripts/cache.ts';
import { run } from '../../scripts/exec.ts';
import type { Kernel } from '../../scripts/kernels.ts';

/** What the initramfs itself needs to reach the host's root and the host's ears. */
const wanted = ['virtio_pci', 'virtio_console', 'virtio_net', '9pnet_virtio', '9p', 'overlay'];

const busybox = '/bin/busybox';
const applets = ['sh', 'mount', 'umount', 'mkdir', 'insmod', 'switch_root'];

/** Path of an initramfs for this kernel; built once and cached by the content of its parts. */
export async function initramfsFor(kernel: Kernel): Promise<string> {
  const init = await readFile(join(import.meta.dirname, 'initramfs-init.sh'));
  const key = hashOf(kernel.version, await readFile(busybox), init, await readFile(import.meta.filename));
  const directory = await cachedDirectory(
    `initramfs/${kernel.release}_${key.slice(0, 16)}`,
    async (target) => {
      const root = join(target, 'root');
      for (const name of ['bin', 'modules', 'proc', 'sys', 'dev', 'lower', 'writable', 'root']) {
        await mkdir(join(root, name), { recursive: true });
      }
      await writeFile(join(root, 'init'), init, { mode: 0o755 });
      await copyFile(busybox, join(root, 'bin/busybox'));
      await chmod(join(root, 'bin/busybox'), 0o755);
      for (const applet of applets) await run('ln', ['-s', 'busybox', join(root, 'bin', applet)]);
      await copyModules(kernel, join(root, 'modules'));
      // Not compressed: the file is 3 MB, and an emulated processor unpacks more slowly than it reads.
      await run('sh', ['-c', 'cd root && find . | cpio -o -H newc --quiet >../initrd && rm -rf ../root'], {
        cwd: target,
      });
    },
  );
  return join(directory, 'initrd');
}

async function copyModules(kernel: Kernel, target: string): Promise<void> {
  const tree = join(kernel.imageDir, 'lib/modules', kernel.release);
  const order = loadOrder(
    await readFile(join(tree, 'modules.dep'), 'utf8'),
    await readFile(join(tree, 'modules.builtin'), 'utf8'),
  );
  for (const path of order) {
    const file = join(target, basename(path));
    await copyFile(join(tree, path), file);
    if (file.endsWith('.xz')) await run('xz', ['-d', file]);
  }
  const names = order.map((path) => basename(path).replace(/\.xz$/, ''));
  await writeFile(join(target, 'order'), names.map((name) => `${name}\n`).join(''));
}

/** Paths of the wanted modules and all that they need, each after what it needs. */
function loadOrder(modulesDep: string, modulesBuiltin: string): string[] {
  const needs = new Map<string, string[]>();
  const paths = new Map<string, string>();
  for (const line of modulesDep.trim().split('\n')) {
    const [path = '', rest = ''] = line.split(':');
    paths.set(moduleName(path), path);
    needs.set(path, rest.trim().split(' ').filter(Boolean));
  }
  const builtin = new Set(modulesBuiltin.trim().split('\n').map(moduleName));
  const order = new Set<string>();
  for (const name of wanted) {
    if (builtin.has(name)) continue;
    const path = paths.get(name);
    if (path === undefined) throw new Error(`this kernel has no module ${name}`);
    // modules.dep lists everything that is needed, the deepest last
    for (const needed of (needs.get(path) ?? []).toReversed()) order.add(needed);
    order.add(path);
  }
  return [...order];
}

/** `kernel/net/9p/9pnet_virtio.ko.xz` → `9pnet_virtio` */
function moduleName(path: string): string {
  return basename(path)
    .replace(/\.ko(\.\w+)?$/, '')
    .replaceAll('-', '_');
}
