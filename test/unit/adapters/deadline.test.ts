// SPDX-License-Identifier: Apache-2.0
import { once } from 'node:events';
import { connect, createServer, type Server } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { deadline } from '../../../src/adapters/deadline.ts';

/** This process does not run for a while. */
function stall(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

describe('deadline', () => {
  let server: Server;

  beforeEach(async () => {
    server = createServer((socket) => socket.end('answer')).listen(0, '127.0.0.1');
    await once(server, 'listening');
  });

  afterEach(() => {
    server.close();
  });

  it('comes when nothing has come in', async () => {
    const began = performance.now();
    await new Promise<void>((resolve) => deadline(50, resolve));
    expect(performance.now() - began).toBeGreaterThanOrEqual(45);
  });

  it('lets what came in while the process did not run go first, answers to it included', async () => {
    const { port } = server.address() as { port: number };
    const socket = connect({ host: '127.0.0.1', port });
    const outcome = new Promise<string>((resolve) => {
      deadline(100, () => resolve('late'));
      socket.once('data', (data) => resolve(data.toString()));
    });
    await new Promise<void>((resolve) => process.nextTick(resolve));
    stall(300);
    expect(await outcome).toBe('answer');
    socket.destroy();
  });

  it('does not come once it was ended', async () => {
    let came = false;
    const end = deadline(10, () => {
      came = true;
    });
    end();
    await sleep(50);
    expect(came).toBe(false);
  });
});
