// SPDX-License-Identifier: Apache-2.0
/** A gzipped tar archive, written part by part. */
import { createWriteStream } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { pack } from 'tar-stream';

export interface ArchivePart {
  /** "nodes/n1/ip_vs.txt" */
  readonly path: string;
  readonly text: string;
}

/**
 * Writes the parts as they come. The file has its name when it is whole, and is readable by its owner only.
 * Throws what the file system, or the parts, throw; then there is no file.
 */
export async function writeArchive(
  file: string,
  parts: AsyncIterable<ArchivePart>,
  { root, date }: { readonly root: string; readonly date: Date },
): Promise<void> {
  const unfinished = `${file}.part`;
  const tar = pack();
  const fill = async (): Promise<void> => {
    for await (const { path, text } of parts) {
      const entry = { name: `${root}/${path}`, mtime: date, mode: 0o600 };
      await new Promise<void>((resolve, reject) => {
        tar.entry(entry, text, (error) => (error ? reject(error) : resolve()));
      });
    }
    tar.finalize();
  };
  try {
    const ended = await Promise.allSettled([
      fill().catch((error: unknown) => {
        tar.destroy(error instanceof Error ? error : new Error(String(error)));
        throw error;
      }),
      pipeline(tar, createGzip(), createWriteStream(unfinished, { mode: 0o600 })),
    ]);
    for (const one of ended) if (one.status === 'rejected') throw one.reason;
    await rename(unfinished, file);
  } catch (error) {
    await rm(unfinished, { force: true });
    throw error;
  }
}
