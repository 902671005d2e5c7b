// SPDX-License-Identifier: Apache-2.0
/** A module that looks like another build of ours and that no kernel takes. */
import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { changeSrcversion } from '../cluster/newer-module.ts';

/** Below the folder that a node has as /var/lib/ipvs-bpf. */
export const BROKEN_MODULE = 'broken/ip_vs.ko';

/**
 * Writes the module with another srcversion, so that it counts as one to be loaded, and with another checksum of
 * the kernel's interface in its table of versions, so that the kernel refuses it.
 */
export async function breakModule(good: string, target: string): Promise<void> {
  const module = await readFile(good);
  const checksum = module.indexOf(Buffer.from('\0module_layout\0')) - 7;
  if (checksum < 0 || module.readUInt32LE(checksum + 4) !== 0) {
    throw new Error(`${good}: has no table of versions`);
  }
  changeSrcversion(module);
  module.writeUInt32LE((module.readUInt32LE(checksum) ^ 1) >>> 0, checksum);
  await mkdir(dirname(target), { recursive: true });
  // The other modules of the build, as a delivery has them.
  for (const name of await readdir(dirname(good))) {
    if (name.endsWith('.ko')) await copyFile(join(dirname(good), name), join(dirname(target), name));
  }
  await writeFile(target, module);
}
