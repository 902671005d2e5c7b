// SPDX-License-Identifier: Apache-2.0
/** Images for the nodes, as archives that `ctr images import` takes; no registry is reached. */
import { copyFile, mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { cachedDirectory, hashFiles, hashOf } from '../../scripts/cache.ts';
import { run, say } from '../../scripts/exec.ts';
import { archiveManifest, type ImageConfig, imageConfig } from './docker-archive.ts';
import { kubernetesBinary } from './go.ts';
import { agnhostImage, busyboxImage, invalidStateImage, pauseImage } from './versions.ts';

/** What the end-to-end suite calls in agnhost's container beside agnhost itself. */
const programs = ['/bin/bash', '/usr/bin/curl', '/bin/nc.openbsd', '/usr/bin/getent'];
const busyboxApplets =
  'arping awk basename cat chmod chown cp cut date dd df dirname du echo env expr false find free grep ' +
  'head hostname id ifconfig ip kill killall ln ls mkdir mkfifo mktemp mount mv netstat nproc nslookup ping ' +
  'printf ps pwd readlink rm rmdir route sed seq sha256sum sleep sort stat sync tail tar tee test time timeout ' +
  'top touch tr traceroute true tty umount uname uniq uptime usleep vi wc which whoami xargs yes';

const searchPath = 'PATH=/usr/sbin:/usr/bin:/sbin:/bin';

/** Archives of pause and of what the end-to-end suite's tests of Services run. */
export async function testImages(kubernetes: string): Promise<string[]> {
  return [
    await pauseArchive(),
    await agnhostArchive(kubernetes),
    await busyboxArchive(),
    await invalidStateArchive(kubernetes),
  ];
}

function pauseArchive(): Promise<string> {
  return archive('pause', pauseImage, { Entrypoint: ['/pause'] }, [], async (root) => {
    await compile('pause.c', join(root, 'pause'));
  });
}

async function compile(source: string, program: string): Promise<void> {
  const flags = ['-Os', '-Wall', '-Werror', '-static', '-s'];
  await run('gcc', [...flags, '-o', program, join(import.meta.dirname, source)]);
}

async function agnhostArchive(kubernetes: string): Promise<string> {
  const agnhost = await kubernetesBinary('agnhost', kubernetes);
  const config = { Entrypoint: ['/agnhost'], Cmd: ['pause'], Env: [searchPath] };
  return archive('agnhost', agnhostImage, config, [kubernetes, ...programs], async (root) => {
    await copyFile(agnhost, join(root, 'agnhost'));
    for (const path of ['bin', 'usr/bin', 'etc', 'tmp', 'root', 'proc', 'sys', 'dev']) {
      await mkdir(join(root, path), { recursive: true });
    }
    await run('chmod', ['1777', join(root, 'tmp')]);
    for (const program of programs) await copyProgram(program, root);
    await addBusybox(root);
    await symlink('bash', join(root, 'bin/sh'));
    await symlink('nc.openbsd', join(root, 'bin/nc'));
    await writeFile(
      join(root, 'etc/passwd'),
      'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n',
    );
    await writeFile(join(root, 'etc/group'), 'root:x:0:\nnogroup:x:65534:\n');
    await writeFile(join(root, 'etc/nsswitch.conf'), 'hosts: files dns\n');
    await compile('wget.c', join(root, 'bin/wget'));
    await probeClients(root);
  });
}

/** With a crashing client each of the suite's tests would take a Service for one that does not answer. */
async function probeClients(root: string): Promise<void> {
  const probe =
    'wget -q -O - -T 1 http://127.0.0.1:9; [ $? = 1 ] && { curl -s -m 1 http://127.0.0.1:9; [ $? = 7 ]; }';
  await run('chroot', [root, '/bin/sh', '-c', probe]);
}

function busyboxArchive(): Promise<string> {
  const config = { Cmd: ['sh'], Env: [searchPath] };
  return archive('busybox', busyboxImage, config, [], async (root) => {
    for (const name of ['bin', 'tmp']) await mkdir(join(root, name));
    await addBusybox(root);
    for (const applet of ['nc', 'sh']) await symlink('busybox', join(root, 'bin', applet));
  });
}

async function addBusybox(root: string): Promise<void> {
  await copyFile('/bin/busybox', join(root, 'bin/busybox'));
  for (const applet of busyboxApplets.split(' ')) await symlink('busybox', join(root, 'bin', applet));
}

/** A server that sends packets out of their connection's window. */
async function invalidStateArchive(kubernetes: string): Promise<string> {
  const name = 'regression-issue-74839';
  const program = await kubernetesBinary(name, kubernetes);
  const config = { Entrypoint: [`/${name}`] };
  return archive(name, invalidStateImage, config, [kubernetes], (root) =>
    copyFile(program, join(root, name)),
  );
}

/** A program of this machine and the libraries that it is linked with, at their paths. */
async function copyProgram(program: string, root: string): Promise<void> {
  const libraries = (await run('ldd', [program])).matchAll(/(?:=> )?(\/\S+) \(0x/g);
  for (const path of [program, ...[...libraries].map(([, library = '']) => library)]) {
    const target = join(root, path);
    await mkdir(dirname(target), { recursive: true });
    await copyFile(path, target);
  }
}

/**
 * @param inputs what the content depends on beside this file and the name
 * @param fill puts the files into an empty folder, the root of the image
 */
async function archive(
  name: string,
  tag: string,
  config: ImageConfig,
  inputs: readonly string[],
  fill: (root: string) => Promise<void>,
): Promise<string> {
  const own = await hashFiles(import.meta.dirname, [
    '/images.ts',
    '/docker-archive.ts',
    '/pause.c',
    '/wget.c',
  ]);
  const key = hashOf(own, tag, ...inputs).slice(0, 16);
  const directory = await cachedDirectory(`cluster/images/${name}_${key}`, async (target) => {
    say(`assembling the image ${tag}`);
    const root = join(target, 'root');
    const parts = join(target, 'parts');
    await mkdir(root);
    await mkdir(parts);
    await fill(root);
    await run('tar', [
      '-c',
      '-f',
      join(parts, 'layer.tar'),
      '--owner=0',
      '--group=0',
      '--numeric-owner',
      '-C',
      root,
      '.',
    ]);
    const layer = (await run('sha256sum', [join(parts, 'layer.tar')])).slice(0, 64);
    await writeFile(join(parts, 'config.json'), imageConfig(config, layer));
    await writeFile(join(parts, 'manifest.json'), archiveManifest(tag));
    await run('tar', [
      '-c',
      '-f',
      join(target, `${name}.tar`),
      '-C',
      parts,
      'manifest.json',
      'config.json',
      'layer.tar',
    ]);
    await rm(root, { recursive: true });
    await rm(parts, { recursive: true });
  });
  return join(directory, `${name}.tar`);
}
