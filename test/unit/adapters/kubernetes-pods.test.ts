// SPDX-License-Identifier: Apache-2.0
/** Exec against a server that speaks the channels of the kubelet (v5.channel.k8s.io) over a WebSocket. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PooledKubeConfig } from '../../../src/adapters/kubernetes-client.ts';
import { KubernetesPods } from '../../../src/adapters/kubernetes-pods.ts';
import { ClusterError } from '../../../src/core/cluster-error.ts';

const STDOUT = 1;
const STDERR = 2;
const STATUS = 3;
const POD = { namespace: 'ipvs-bpf', name: 'agent-1' };

/** A binary frame of RFC 6455, unmasked as servers send them. */
function frame(channel: number, data: string | Uint8Array): Buffer {
  const payload = Buffer.concat([Buffer.of(channel), Buffer.from(data)]);
  const header = Buffer.of(0x82, 126, payload.length >> 8, payload.length & 0xff);
  return Buffer.concat([header, payload]);
}

describe('pods', () => {
  let server: Server;
  let pods: KubernetesPods;
  let asked: URL | undefined;
  /** What the server does with a connection that asks for an exec. */
  let serve: (socket: Socket) => void;
  let answer: (request: IncomingMessage, response: ServerResponse) => void;
  const sockets: Socket[] = [];

  beforeEach(async () => {
    serve = () => {};
    answer = (_, response) => response.writeHead(404).end();
    server = createServer((request, response) => answer(request, response));
    server.on('upgrade', (request, socket: Socket) => {
      sockets.push(socket);
      asked = new URL(request.url ?? '', 'http://x');
      const accept = createHash('sha1')
        .update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
        .digest('base64');
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
          `Sec-WebSocket-Accept: ${accept}\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n`,
      );
      serve(socket);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const config = new PooledKubeConfig();
    config.loadFromOptions({
      clusters: [
        {
          name: 'c',
          server: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
          skipTLSVerify: true,
        },
      ],
      users: [{ name: 'u', token: 'none' }],
      contexts: [{ name: 'x', cluster: 'c', user: 'u' }],
      currentContext: 'x',
    });
    pods = new KubernetesPods(config);
  });

  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  const success = JSON.stringify({ metadata: {}, status: 'Success' });
  const failure = (code: string) =>
    JSON.stringify({
      status: 'Failure',
      reason: 'NonZeroExitCode',
      message: `command terminated with exit code ${code}`,
      details: { causes: [{ reason: 'ExitCode', message: code }] },
    });

  async function exec(signal = new AbortController().signal) {
    let output = '';
    const ended = await pods.exec(POD, {
      container: 'agent',
      command: ['node', 'top', '--once'],
      onOutput: (text) => {
        output += text;
      },
      signal,
    });
    return { ...ended, output };
  }

  it('run a command, and its output comes in whole characters', async () => {
    const bytes = Buffer.from('straße\n');
    serve = (socket) => {
      socket.write(frame(STDOUT, bytes.subarray(0, 5)));
      socket.write(frame(STDOUT, bytes.subarray(5)));
      socket.write(frame(STDERR, 'a warning\n'));
      socket.write(frame(STATUS, success));
    };
    expect(await exec()).toEqual({ status: 0, output: 'straße\n', stderr: 'a warning\n' });
    expect(asked?.pathname).toBe('/api/v1/namespaces/ipvs-bpf/pods/agent-1/exec');
    expect(asked?.searchParams.getAll('command')).toEqual(['node', 'top', '--once']);
    expect(asked?.searchParams.get('container')).toBe('agent');
  });

  it('answer the status of a command that failed', async () => {
    serve = (socket) => socket.write(frame(STATUS, failure('2')));
    expect(await exec()).toMatchObject({ status: 2 });
  });

  it('say what the kubelet says of a command that could not be run', async () => {
    const status = { status: 'Failure', code: 500, reason: 'InternalError', message: 'no such container' };
    serve = (socket) => socket.write(frame(STATUS, JSON.stringify(status)));
    await expect(exec()).rejects.toMatchObject({
      name: 'ClusterError',
      status: 500,
      detail: 'no such container',
    });
  });

  it('do not take a connection that breaks for the end of the command', async () => {
    serve = (socket) => {
      socket.write(frame(STDOUT, 'half'));
      setTimeout(() => socket.destroy(), 20);
    };
    await expect(exec()).rejects.toThrow('the connection ended before the command did');
  });

  it('let go when they are told to', async () => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 50);
    await expect(exec(controller.signal)).rejects.toThrow('it was given up');
  });

  it('let go before the API server has answered', async () => {
    const controller = new AbortController();
    server.removeAllListeners('upgrade');
    server.on('upgrade', (_, socket: Socket) => {
      sockets.push(socket);
      controller.abort();
    });
    await expect(exec(controller.signal)).rejects.toThrow('it was given up');
  });

  it.each([401, 403, 404])('say that the API server answered %i', async (status) => {
    server.removeAllListeners('upgrade');
    server.on('upgrade', (_, socket: Socket) => socket.end(`HTTP/1.1 ${status} No\r\n\r\n`));
    const error = await exec().catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(ClusterError);
    expect(error).toMatchObject({ status });
  });

  it('have logs', async () => {
    answer = (request, response) => {
      asked = new URL(request.url ?? '', 'http://x');
      response.writeHead(200, { 'content-type': 'text/plain' }).end('{"level":"info"}\nnot JSON\n');
    };
    expect(await pods.log(POD, { container: 'agent', lines: 7, previous: true })).toBe(
      '{"level":"info"}\nnot JSON\n',
    );
    expect(Object.fromEntries(asked?.searchParams ?? [])).toMatchObject({
      container: 'agent',
      tailLines: '7',
      previous: 'true',
    });
  });

  it('have none before they ran', async () => {
    answer = (_, response) => {
      const status = {
        kind: 'Status',
        reason: 'BadRequest',
        message: 'previous terminated container not found',
      };
      response.writeHead(400, { 'content-type': 'application/json' }).end(JSON.stringify(status));
    };
    await expect(pods.log(POD, { lines: 1 })).rejects.toMatchObject({ status: 400, reason: 'BadRequest' });
  });
});
