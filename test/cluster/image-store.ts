// SPDX-License-Identifier: Apache-2.0
/**
 * What containerd makes of image archives, made once on the host: an emulated machine takes a minute to hash and
 * unpack what this one does in two seconds. Nodes read the files where they are.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cachedDirectory, hashOf } from '../../scripts/cache.ts';
import { run, say } from '../../scripts/exec.ts';
import { serverPackages } from './debian.ts';
import { waitFor } from './wait.ts';

/** @returns a root directory of containerd that has the images, unpacked, for Kubernetes */
export async function imageStore(archives: readonly string[]): Promise<string> {
  const servers = await serverPackages();
  const key = hashOf(servers, ...archives).slice(0, 16);
  const directory = await cachedDirectory(`cluster/store_${key}`, async (target) => {
    say('unpacking the images for the nodes');
    await withContainerd(servers, join(target, 'root'), async (ctr) => {
      for (const archive of archives) await ctr(['images', 'import', archive]);
    });
  });
  return join(directory, 'root');
}

type Ctr = (args: readonly string[]) => Promise<string>;

async function withContainerd(
  servers: string,
  root: string,
  work: (ctr: Ctr) => Promise<void>,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'ipvs-bpf-containerd-'));
  const address = join(directory, 'socket');
  const config = join(directory, 'config.toml');
  await writeFile(
    config,
    `version = 2\nroot = "${root}"\nstate = "${directory}/state"\n` +
      `disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "${address}"\n`,
  );
  const daemon = spawn(join(servers, 'usr/bin/containerd'), ['--config', config], { stdio: 'ignore' });
  const ended = once(daemon, 'exit');
  const ctr: Ctr = (args) => run(join(servers, 'usr/bin/ctr'), ['-a', address, '-n', 'k8s.io', ...args]);
  try {
    await waitFor('containerd', 30_000, async () => {
      if (daemon.exitCode !== null) throw new Error(`containerd ended with status ${daemon.exitCode}`);
      return ctr(['version']).then(
        () => true,
        () => false,
      );
    });
    await work(ctr);
  } finally {
    daemon.kill();
    await ended;
    await rm(directory, { recursive: true, force: true });
  }
}
