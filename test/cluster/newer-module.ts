// SPDX-License-Identifier: Apache-2.0
/** A module that is another build by all that it says of itself, and does the same. */
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Changes the srcversion of a module in place; answers the new one. */
export function changeSrcversion(module: Buffer): string {
  const key = 'srcversion=';
  const at = module.indexOf(key);
  if (at < 0) throw new Error('the module has no srcversion');
  const digit = at + key.length;
  module.write(module[digit] === 0x41 ? 'B' : 'A', digit);
  return module.toString('latin1', digit, module.indexOf(0, digit));
}

/** Makes the build in a directory a newer one, with its manifest. */
export async function makeNewer(directory: string): Promise<void> {
  const [file, manifestFile] = [join(directory, 'ip_vs.ko'), join(directory, 'manifest.json')];
  const module = await readFile(file);
  const srcversion = changeSrcversion(module);
  const sha256 = createHash('sha256').update(module).digest('hex');
  const manifest = JSON.parse(await readFile(manifestFile, 'utf8')) as object;
  await writeFile(file, module);
  await writeFile(manifestFile, JSON.stringify({ ...manifest, srcversion, sha256 }));
}
