// SPDX-License-Identifier: Apache-2.0
/** Links of the documentation lead to files, and to headings, that are there. */
import { existsSync, globSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { expect, it } from 'vitest';

const ROOT = resolve(import.meta.dirname, '../../..');
const pages = globSync(['*.md', '{docs,charts,kernel-module,packages}/**/*.md'], {
  cwd: ROOT,
  exclude: (path) => path.includes('node_modules'),
});

/** As the sites that show Markdown make an anchor of a heading. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\w\- ]/g, '')
    .replaceAll(' ', '-');
}

function anchorsIn(path: string): readonly string[] {
  const text = readFileSync(path, 'utf8').replaceAll(/^```.*?^```/gms, '');
  return [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => anchorOf(heading));
}

/** What is wrong with a link, or undefined. */
function faultOf(page: string, link: string): string | undefined {
  const [file = '', anchor] = link.split('#');
  const path = file === '' ? join(ROOT, page) : resolve(ROOT, dirname(page), file);
  if (!existsSync(path)) return `${link}: no such file`;
  if (anchor === undefined || statSync(path).isDirectory() || !path.endsWith('.md')) return undefined;
  return anchorsIn(path).includes(anchor) ? undefined : `${link}: no such heading`;
}

it('there are pages', () => {
  expect(pages.length).toBeGreaterThan(10);
});

it.each(pages)('%s', (page) => {
  const text = readFileSync(join(ROOT, page), 'utf8');
  const links = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link = '']) => link);
  const relative = links.filter((link) => !/^\w+:/.test(link));
  expect(relative.flatMap((link) => faultOf(page, link) ?? [])).toEqual([]);
});
