// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { commandFile, settingsFile } from '../../vm/command.ts';

const silent = { kernel: '6.1', onStdout: () => undefined, onStderr: () => undefined } as const;

function sh(text: string): string {
  return execFileSync('/bin/sh', ['-c', text], { encoding: 'utf8' });
}

describe('the command of a virtual machine', () => {
  it('keeps every character of its arguments', () => {
    const args = ['two words', "it's", '$HOME `id`', '', '*', 'a\nb', '--x="y"'];
    const text = commandFile({ ...silent, script: '/usr/bin/printf', args: ['[%s]', ...args] });
    expect(sh(text)).toBe(args.map((arg) => `[${arg}]`).join(''));
  });

  it('runs in the given directory', () => {
    expect(sh(commandFile({ ...silent, script: 'pwd', cwd: '/usr' }))).toBe('/usr\n');
  });

  it('quotes settings', () => {
    expect(sh(`${settingsFile({ A: "b'c $d" })}echo "$A"`)).toBe("b'c $d\n");
  });
});
