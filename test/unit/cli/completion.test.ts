// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { commandTree, completionScript } from '../../../src/cli/completion.ts';
import { createProgram } from '../../../src/cli/program.ts';

const program = createProgram('/opt/ipvs-bpf');
const tree = commandTree(program);

/** What bash offers after these words; the last one is begun. */
function complete(...words: readonly string[]): readonly string[] {
  const script = `${completionScript(program, 'bash')}
COMP_WORDS=(ipvs-bpf ${words.map((word) => `'${word}'`).join(' ')})
COMP_CWORD=${words.length}
_ipvs_bpf
printf '%s\\n' "\${COMPREPLY[@]}"`;
  const out = execFileSync('bash', ['--norc', '-euo', 'pipefail', '-c', script], { encoding: 'utf8' });
  return out.split('\n').filter(Boolean);
}

describe('the completion of bash', () => {
  it('offers commands', () => {
    expect(complete('')).toEqual(expect.arrayContaining(tree[0]?.subcommands.map(({ name }) => name) ?? []));
    expect(complete('sta')).toEqual(['status']);
    expect(complete('node', 'st')).toEqual(['status']);
    expect(complete('completion', 'f')).toEqual(['fish']);
  });

  it('offers every option of every command', () => {
    for (const { path, options } of tree) {
      const offered = complete(...path.split(' ').filter(Boolean), '-');
      expect(offered, path).toEqual(expect.arrayContaining(options.flatMap(({ flags }) => flags)));
    }
  });

  it('offers the values of an option, and takes none for a command', () => {
    expect(complete('status', '--output', '')).toEqual(['text', 'json']);
    expect(complete('status', '-o', 'j')).toEqual(['json']);
    expect(complete('status', '--context', 'node', '--wa')).toEqual(['--wait', '--wait-duration']);
    expect(complete('node', 'up', '--context', '')).not.toContain('text');
  });

  it('offers files where a file is wanted', () => {
    expect(complete('node', 'up', '--config', '/etc/hostnam')).toEqual(['/etc/hostname']);
    expect(complete('status', '--context', '')).toEqual([]);
  });

  it('does not offer what is hidden', () => {
    expect(complete('conn')).toEqual(['conn-test']);
    expect(complete('node', 'top', '--t')).toEqual([]);
  });
});

describe.each(['zsh', 'fish'] as const)('the completion of %s', (shell) => {
  it('has every command, option and value', () => {
    const script = completionScript(program, shell);
    for (const { subcommands, options, choices } of tree) {
      const words = [
        ...subcommands.map(({ name }) => name),
        ...choices,
        ...options.flatMap((option) => [...option.flags, ...option.choices]),
      ];
      const expected = shell === 'fish' ? words.map((word) => word.replace(/^--?/, '')) : words;
      for (const word of expected) expect(script).toMatch(new RegExp(`(?<![\\w-])${word}(?![\\w-])`));
    }
  });
});
