// SPDX-License-Identifier: Apache-2.0
/** The commands that a page of the documentation shows, for tests that run just these. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { repository } from '../scripts/cache.ts';

/**
 * Blocks of code, without their indentation.
 * @param page path in the repository
 * @param heading only those below this line ("### On a node of a cluster"), up to the next heading
 * @throws Error if there are none
 */
export function documentedBlocks(page: string, heading?: string): readonly string[] {
  const lines = readFileSync(join(repository, page), 'utf8').split('\n');
  const blocks: string[][] = [];
  let block: string[] | undefined;
  let isBelow = heading === undefined;
  for (const line of lines) {
    if (/^ *```/.test(line)) {
      if (block !== undefined && isBelow) blocks.push(block);
      block = block === undefined ? [] : undefined;
    } else if (block !== undefined) block.push(line);
    else if (/^#+ /.test(line) && heading !== undefined) isBelow = line === heading;
  }
  if (blocks.length === 0) throw new Error(`${page}: no commands below ${heading ?? 'any heading'}`);
  return blocks.map(withoutIndentation);
}

function withoutIndentation(block: readonly string[]): string {
  const [indentation = ''] = /^ */.exec(block[0] ?? '') ?? [];
  return block
    .map((line) => (line.startsWith(indentation) ? line.slice(indentation.length) : line))
    .join('\n');
}

/** Each command of a block, with the lines that it goes on in and the document that it reads. */
export function commandsOf(block: string): readonly string[] {
  const commands: string[] = [];
  let end: string | undefined;
  let goesOn = false;
  for (const line of block.split('\n')) {
    if (end !== undefined || goesOn) commands.push(`${commands.pop()}\n${line}`);
    else if (line.trim() !== '') commands.push(line);
    if (end === line) end = undefined;
    else end ??= /<<'?(\w+)'?$/.exec(line)?.[1];
    goesOn = end === undefined && line.endsWith('\\');
  }
  return commands;
}
