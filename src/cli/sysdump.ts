// SPDX-License-Identifier: Apache-2.0
/** `ipvs-bpf sysdump`: what a bug report needs, in one archive, without secrets. */
import { basename } from 'node:path';
import manifest from '../../package.json' with { type: 'json' };
import { ClusterError } from '../core/cluster-error.ts';
import { type ArchivePart, withCluster, writeSysdump } from './main.ts';
import { type ClusterOptions, EXIT } from './options.ts';
import { untilStopped } from './stop.ts';
import { type SysdumpPart, sysdumpParts } from './sysdump-parts.ts';

export interface SysdumpOptions extends ClusterOptions {
  readonly output?: string;
  readonly node?: readonly string[];
  readonly logLines: number;
}

export async function sysdumpCommand(options: SysdumpOptions): Promise<number> {
  const date = new Date();
  const time = date.toISOString().slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '-');
  const file = options.output ?? `ipvs-bpf-sysdump-${time}.tar.gz`;
  const missing: string[] = [];
  await withCluster(options, (access) =>
    untilStopped((stop) =>
      writeSysdump(
        file,
        contents(sysdumpParts(access, { ...options, stop }), { missing, date, options, stop }),
        {
          root: basename(file).replace(/\.(tar\.gz|tgz)$/, ''),
          date,
        },
      ),
    ),
  );
  process.stdout.write(`${file}\n`);
  for (const line of missing) process.stderr.write(`missing: ${line}\n`);
  return missing.length === 0 ? EXIT.ok : EXIT.failed;
}

interface Recorded {
  readonly missing: string[];
  readonly date: Date;
  readonly options: SysdumpOptions;
  readonly stop: AbortSignal;
}

/** What could be read, and at the end errors.txt with what could not. */
async function* contents(
  parts: AsyncIterable<SysdumpPart>,
  { missing, date, options, stop }: Recorded,
): AsyncGenerator<ArchivePart> {
  const about = { version: manifest.version, date: date.toISOString(), node: options.node ?? [] };
  yield { path: 'about.json', text: `${JSON.stringify(about, undefined, 2)}\n` };
  for await (const part of parts) {
    stop.throwIfAborted();
    if ('text' in part) yield part;
    else missing.push(`${part.path}: ${messageOf(part.error)}`);
  }
  if (missing.length > 0) yield { path: 'errors.txt', text: missing.map((line) => `${line}\n`).join('') };
}

function messageOf(error: unknown): string {
  if (error instanceof ClusterError && error.advice !== undefined) return `${error.message} ${error.advice}`;
  return error instanceof Error ? error.message : String(error);
}
