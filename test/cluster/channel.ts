// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cachedDirectory, hashOf } from '../../scripts/cache.ts';
import { run } from '../../scripts/exec.ts';

const source = join(import.meta.dirname, 'channel.c');

/** Path of the program of channel.c, linked statically. */
export async function channelBinary(): Promise<string> {
  const key = hashOf(await readFile(source)).slice(0, 16);
  const directory = await cachedDirectory(`cluster/channel_${key}`, async (target) => {
    await run('gcc', [
      '-O2',
      '-Wall',
      '-Wextra',
      '-Werror',
      '-static',
      '-o',
      join(target, 'channel'),
      source,
    ]);
  });
  return join(directory, 'channel');
}
