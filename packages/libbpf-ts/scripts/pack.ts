// SPDX-License-Identifier: Apache-2.0
/**
 * Makes the package that is published in build/: Node.js strips no types below node_modules, so
 * it holds JavaScript and declarations where this folder has TypeScript.
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const root = join(import.meta.dirname, '..');
const output = join(root, 'build', 'package');
const typescript = dirname(createRequire(import.meta.url).resolve('typescript/package.json'));

rmSync(join(root, 'build'), { recursive: true, force: true });
mkdirSync(output, { recursive: true });
const options = ['--noEmit', 'false', '--rewriteRelativeImportExtensions', '--declaration'];
execFileSync(
  process.execPath,
  [
    join(typescript, 'bin', 'tsc'),
    '-p',
    join(root, 'tsconfig.json'),
    '--outDir',
    join(output, 'dist'),
    ...options,
  ],
  { stdio: 'inherit' },
);
for (const file of ['README.md', 'LICENSE']) copyFileSync(join(root, file), join(output, file));

const { scripts: _, ...manifest } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
manifest.exports = {
  '.': { types: './dist/index.d.ts', default: './dist/index.js' },
  './package.json': './package.json',
};
writeFileSync(join(output, 'package.json'), `${JSON.stringify(manifest, undefined, 2)}\n`);
execFileSync('npm', ['pack', '--pack-destination', join(root, 'build')], { cwd: output, stdio: 'inherit' });
