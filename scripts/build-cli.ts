// SPDX-License-Identifier: Apache-2.0
import { mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from 'esbuild';
import { repository } from './cache.ts';

/** Found next to dist/ at run time: they hold native code. */
const external = ['koffi', 'netlink'];

/** What CommonJS packages inside of an ESM bundle need. */
const banner = `import { createRequire as createRequireOfBundle } from 'node:module';
const require = createRequireOfBundle(import.meta.url);`;

/** Finds the pinned Node of this installation, from whatever folder and through symbolic links. */
const launcher = `#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
dist=$(dirname -- "$(readlink -f -- "$0")")
exec "$dist/../node_modules/.bin/node" --disable-warning=ExperimentalWarning "$dist/ipvs-bpf.mjs" "$@"
`;

/** Bundles src/cli.ts into dist/: ipvs-bpf (the launcher), ipvs-bpf.mjs and what it imports later. */
export async function buildCli(): Promise<string> {
  const target = join(repository, 'dist');
  await mkdir(target, { recursive: true });
  const temporary = await mkdtemp(join(target, '.new-'));
  try {
    await bundle(temporary);
    await writeFile(join(temporary, 'ipvs-bpf'), launcher, { mode: 0o755 });
    const names = await readdir(temporary);
    for (const name of names) await rename(join(temporary, name), join(target, name));
    await removeOthers(target, names);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  return target;
}

async function bundle(directory: string): Promise<void> {
  await build({
    absWorkingDir: repository,
    entryPoints: { 'ipvs-bpf': 'src/cli.ts' },
    outdir: directory,
    bundle: true,
    splitting: true,
    platform: 'node',
    target: 'node24',
    format: 'esm',
    outExtension: { '.js': '.mjs' },
    chunkNames: 'chunk-[hash]',
    external,
    banner: { js: banner },
    legalComments: 'linked',
    logLevel: 'warning',
  });
}

/** Chunks of earlier builds: their names hold their hash. */
async function removeOthers(target: string, names: readonly string[]): Promise<void> {
  for (const name of await readdir(target)) {
    if (!names.includes(name)) await rm(join(target, name), { recursive: true, force: true });
  }
}
