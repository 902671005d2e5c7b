// SPDX-License-Identifier: Apache-2.0
/** What `runInVm` can do that `npm run vm` does not offer. */
import { existsSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import { runInVm } from './machine.ts';

// A container may have no such device; only npm run bench:throughput needs it.
const hasTaps = existsSync('/dev/net/tun');

test.skipIf(!hasTaps)(
  'answers what it is sent while it runs, and has a network card for each tap',
  async () => {
    const stdin = new PassThrough();
    let stdout = '';
    const result = await runInVm({
      kernel: '6.1',
      script: 'sh',
      args: [
        '-c',
        'echo ready; read -r words; echo "got $words"; cd /sys/class/net && echo *; cat eth1/address',
      ],
      taps: [`vmt${process.pid}a`, `vmt${process.pid}b`],
      stdin,
      onStdout: (chunk) => {
        stdout += chunk.toString();
        if (stdout === 'ready\n') stdin.write('two words\n');
      },
      onStderr: (chunk) => process.stderr.write(chunk),
    });
    expect(result.status).toBe(0);
    // QEMU numbers the cards as they are told.
    expect(stdout).toBe('ready\ngot two words\neth0 eth1 lo\n52:54:00:12:34:57\n');
  },
);
