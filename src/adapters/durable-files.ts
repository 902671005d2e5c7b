// SPDX-License-Identifier: Apache-2.0
/** Files that are whole or not there, and on the disk, also after a crash. */
import { open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';

/** In place of what is there. A crash may leave PATH.new. */
export async function writeWhole(path: string, content: string | Uint8Array, mode = 0o600): Promise<void> {
  const temporary = `${path}.new`;
  await writeDurably(temporary, content, mode);
  await rename(temporary, path);
  await syncDirectory(dirname(path));
}

export async function writeDurably(path: string, content: string | Uint8Array, mode = 0o600): Promise<void> {
  const file = await open(path, 'w', mode);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** What was renamed or removed there is so on the disk. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
