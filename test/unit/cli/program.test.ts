// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { commandTree } from '../../../src/cli/completion.ts';
import { createProgram } from '../../../src/cli/program.ts';
import { SEE } from '../../../src/core/cluster-summary.ts';

const page = readFileSync(new URL('../../../docs/cli.md', import.meta.url), 'utf8');
const tree = commandTree(createProgram('/opt/ipvs-bpf'));
const COMMON = ['--help', '-h', '-V'];

/** As GitHub makes the anchors of headings; one that is there twice has a number. */
function anchors(file: string): readonly string[] {
  const text = readFileSync(new URL(`../../../${file}`, import.meta.url), 'utf8').replaceAll(
    /^```[\s\S]*?^```/gm,
    '',
  );
  return [...text.matchAll(/^#+ (.+)$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  );
}

describe('docs/cli.md', () => {
  it.each(tree.filter(({ path }) => path !== '').map(({ path }) => path))('has the command "%s"', (path) => {
    expect(page).toMatch(new RegExp(`\`${path}[\` ]|^### ${path}$`, 'm'));
  });

  it.each(
    tree.flatMap(({ path, options }) =>
      options.flatMap(({ flags }) =>
        flags.filter((flag) => !COMMON.includes(flag)).map((flag) => [path, flag]),
      ),
    ),
  )('has of "%s" the option %s', (_, flag) => {
    expect(page).toMatch(new RegExp(`[\\s\`[]${flag}[\\s\`\\],]`));
  });

  it('has no option that there is not', () => {
    const known = new Set(tree.flatMap(({ options }) => options.flatMap(({ flags }) => flags)));
    const ours = page.replaceAll(/^(ctr|crictl|systemctl|mount|for|mkdir) .*$/gm, '');
    const named = [...ours.matchAll(/(?<=[\s`[])--[a-z][a-z-]*/g)].map(([flag]) => flag);
    expect(named.filter((flag) => !known.has(flag))).toEqual([]);
  });
});

describe('help', () => {
  it.each(tree.filter(({ path, subcommands }) => path !== '' && subcommands.length === 0))(
    'of "$path" has exit statuses',
    ({ path }) => {
      let text = '';
      const program = createProgram('/opt/ipvs-bpf');
      let command = program;
      for (const word of path.split(' ')) {
        command = command.commands.find((child) => child.name() === word) ?? command;
      }
      command.configureOutput({ writeOut: (part) => (text += part) });
      command.outputHelp();
      expect(text).toMatch(/Exit status:\n {2}0 {2}/);
    },
  );
});

describe('what findings refer to', () => {
  it.each(Object.values(SEE))('is there: %s', (place) => {
    const [file = '', anchor = ''] = place.split('#');
    expect(anchors(file)).toContain(anchor);
  });

  it('is there for a node whose agent keeps the lock', () => {
    expect(anchors('docs/cli.md')).toContain('on-a-node-of-a-cluster');
  });
});
