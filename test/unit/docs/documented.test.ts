// SPDX-License-Identifier: Apache-2.0
import { expect, it } from 'vitest';
import { commandsOf, documentedBlocks } from '../../documented.ts';

it('finds the blocks below a heading, and only these', () => {
  const [first = '', second = ''] = documentedBlocks('docs/cli.md', '### On a node of a cluster');
  expect(commandsOf(first)[0]).toBe('systemctl stop kubelet');
  expect(second).toMatch(/node down/);
  expect(() => documentedBlocks('docs/cli.md', '### Nowhere')).toThrow('no commands');
});

it('takes a block without its indentation', () => {
  const blocks = documentedBlocks('docs/install.md');
  expect(blocks.map((block) => commandsOf(block)[0]?.split(' ')[0])).toEqual(['docker', 'kubectl']);
});

it('takes what a command goes on with, and the document that it reads, for a part of it', () => {
  expect(commandsOf("a \\\n  b\nkubectl apply -f - <<'EOF'\nx: \\\ny: 1\nEOF\n\nc")).toEqual([
    'a \\\n  b',
    "kubectl apply -f - <<'EOF'\nx: \\\ny: 1\nEOF",
    'c',
  ]);
});
