// SPDX-License-Identifier: Apache-2.0
/** What docs/modules.md has installed on a node that builds its own module is what the image's own build needs. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '../../..');
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');

/** Of all `apt-get install` in a text. */
function installed(text: string): readonly string[] {
  const commands = [...text.matchAll(/apt-get install ((?:[^\n]*\\\n)*[^\n]*)/g)].map(
    ([, words = '']) => words,
  );
  const words = commands.flatMap((command) => command.split(/&&/)[0]?.split(/[\s\\]+/) ?? []);
  return [...new Set(words.filter((word) => /^[a-z]/.test(word)))].sort();
}

it('docs/modules.md installs the packages of the stages of the Dockerfile that build a module', () => {
  const [page = ''] = read('docs/modules.md').split('## Deliver by image');
  const stages = read('Dockerfile').split(/^(?=FROM )/m);
  const building = stages.filter((stage) => / AS (npm|build)\n/.test(stage)).join('');
  expect(installed(page)).toEqual(installed(building));
  expect(installed(page)).toContain('libelf-dev');
});
