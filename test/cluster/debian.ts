// SPDX-License-Identifier: Apache-2.0
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { cachedDirectory, hashOf, repository } from '../../scripts/cache.ts';
import { run, say } from '../../scripts/exec.ts';

/**
 * Only unpacked, into the cache, as Prometheus is: installed they would start services on this machine. What their
 * programs link against is in scripts/packages-cluster.txt. crun and not runc: a container is started by half a dozen
 * runs of it, and an emulated machine takes a second for each start of a Go program.
 */
const unpacked = ['etcd-server', 'containerd', 'crun', 'containernetworking-plugins'];

/** Installs the packages of scripts/packages-cluster.txt that are missing. */
export async function installClusterPackages(): Promise<void> {
  const text = await readFile(join(repository, 'scripts/packages-cluster.txt'), 'utf8');
  await installPackages(packageNames(text));
}

/** One name a line; `#` begins a comment. */
export function packageNames(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim())
    .filter(Boolean);
}

/** Debian packages by apt, if they are not there. */
export async function installPackages(names: readonly string[]): Promise<void> {
  const missing = await missingPackages(names);
  if (missing.length === 0) return;
  say(`installing Debian packages: ${missing.join(' ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  await run('apt-get', ['-q', 'update'], { env });
  await run('apt-get', ['-q', '-y', '--no-install-recommends', 'install', ...missing], { env });
}

async function missingPackages(names: readonly string[]): Promise<string[]> {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own placeholders
  const format = '${Package} ${db:Status-Abbrev}\n';
  // it fails when a name is unknown, and still lists the others
  const list = await run('sh', ['-c', 'dpkg-query -W -f "$0" "$@" 2>/dev/null || :', format, ...names]);
  const have = new Set(list.split('\n').flatMap((line) => /^(\S+) ii/.exec(line)?.[1] ?? []));
  return names.filter((name) => !have.has(name));
}

/** Root of a tree with the programs of etcd, containerd, crun and the CNI plugins. */
export function serverPackages(): Promise<string> {
  return unpackedTree(unpacked);
}

/** Path of the program, with promtool beside it. Neither needs another package. */
export async function prometheusBinary(): Promise<string> {
  return join(await unpackedTree(['prometheus']), 'usr/bin/prometheus');
}

/** Root of a cached tree that has the files of these packages, and not of those that they depend on. */
export function unpackedTree(names: readonly string[]): Promise<string> {
  return cachedDirectory(`cluster/debian_${hashOf(...names).slice(0, 8)}`, async (directory) => {
    say(`downloading ${names.join(', ')}`);
    const download = join(directory, 'download');
    await mkdir(download);
    const fetch = ['-q', '-o', 'APT::Sandbox::User=root', 'download', ...names];
    try {
      await run('apt-get', fetch, { cwd: download });
    } catch {
      // the package lists may be missing or too old
      await run('apt-get', ['-q', 'update']);
      await run('apt-get', fetch, { cwd: download });
    }
    const packages = await run('find', [download, '-name', '*.deb']);
    for (const file of packages.trim().split('\n')) await run('dpkg-deb', ['-x', file, directory]);
    await rm(download, { recursive: true });
  });
}
