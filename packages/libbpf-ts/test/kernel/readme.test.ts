// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, inject, it } from 'vitest';
import { VethPair } from './fixture.ts';

const PACKAGE = join(import.meta.dirname, '..', '..');
const readme = readFileSync(join(PACKAGE, 'README.md'), 'utf8');
const PINS = '/sys/fs/bpf/example';

const removePins = () => rmSync(PINS, { recursive: true, force: true });
beforeEach(removePins);
afterEach(removePins);

function blocks(language: string): string[] {
  return [...readme.matchAll(new RegExp(`\`\`\`${language}\n(.*?)\`\`\``, 'gs'))].map(
    ([, code]) => code ?? '',
  );
}

/** The examples as one program, with `EXPRESSION; // → VALUE` as a comparison that is counted. */
function exampleProgram(ifindex: number): string {
  const code = blocks('ts')
    .join('\n')
    .replaceAll("from 'libbpf-ts'", `from '${join(PACKAGE, 'src', 'index.ts')}'`)
    .replace(/^( *)(.+); \/\/ → (.+)$/gm, '$1deepStrictEqual($2, $3); compared += 1;');
  return [
    "import { deepStrictEqual } from 'node:assert';",
    'let compared = 0;',
    `const ifindex = ${ifindex};`,
    code,
    "console.log('compared:', compared);",
  ].join('\n');
}

it('the examples do what they say', () => {
  using veth = new VethPair('readme');
  const file = join(inject('objects'), 'example.ts');
  writeFileSync(file, exampleProgram(veth.ifindex));
  const output = execFileSync(process.execPath, [file], { cwd: inject('objects'), encoding: 'utf8' });
  // With TCX and without it three lines are compared, and only one of the two runs.
  const branch = 3;
  const arrows = readme.match(/; \/\/ → /g)?.length ?? 0;
  expect(output).toContain('80 60n');
  expect(output).toContain(`compared: ${arrows - branch}`);
});

it('the declarations are those of the object', () => {
  const source = readFileSync(join(PACKAGE, 'test', 'bpf', 'example.bpf.c'), 'utf8');
  const [declarations] = blocks('c');
  expect(source).toContain(declarations);
});
