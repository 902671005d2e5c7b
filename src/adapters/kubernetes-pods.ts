// SPDX-License-Identifier: Apache-2.0
/** Logs of pods, and commands in them. */
import { Writable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { Exec, type V1Status } from '@kubernetes/client-node';
import type { ExecOptions, LogOptions, Pods } from '../cluster-ports.ts';
import { ClusterError } from '../core/cluster-error.ts';
import { keyOf, type ObjectName } from '../core/kube-object.ts';
import { KubernetesClient, noAnswer, type PooledKubeConfig } from './kubernetes-client.ts';

/** A pod that writes long lines does not fill the memory. */
const MAX_LOG_BYTES = 20_000_000;
const HANDSHAKE_MS = 30_000;

export class KubernetesPods implements Pods {
  readonly #client: KubernetesClient;
  readonly #config: PooledKubeConfig;

  constructor(config: PooledKubeConfig) {
    this.#config = config;
    this.#client = new KubernetesClient(config);
  }

  log(pod: ObjectName, { container, lines, previous }: LogOptions): Promise<string> {
    const { namespace = 'default', name } = pod;
    const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}/log`;
    return this.#client.requestText('GET', path, {
      action: `read the log of pod ${keyOf(pod)}`,
      // The log itself is text; an error is JSON.
      accept: 'text/plain, application/json',
      query: {
        container,
        tailLines: lines,
        limitBytes: MAX_LOG_BYTES,
        previous: previous === true ? 'true' : undefined,
      },
    });
  }

  async exec(
    pod: ObjectName,
    { container, command, onOutput, signal }: ExecOptions,
  ): Promise<{ readonly status: number; readonly stderr: string }> {
    const { namespace = 'default', name } = pod;
    const action = `run "${command.join(' ')}" in pod ${keyOf(pod)}`;
    let stderr = '';
    const out = textSink(onOutput);
    const err = textSink((text) => {
      stderr += text;
    });
    const ended = Promise.withResolvers<V1Status | undefined>();
    const exec = new Exec(this.#config);
    const words = [...command];
    const opening = exec.exec(namespace, name, container, words, out, err, null, false, ended.resolve);
    const socket = await opened(action, opening, signal);
    void closed(socket, signal).then(() => ended.resolve(undefined));
    // The status is the last that comes; not everybody says goodbye after it.
    const status = await ended.promise;
    socket.terminate();
    if (status !== undefined) return { status: exitStatus(action, status), stderr };
    const detail = signal.aborted ? 'it was given up' : 'the connection ended before the command did';
    throw new ClusterError(action, { status: 0, reason: 'Interrupted', detail });
  }
}

type Socket = Awaited<ReturnType<Exec['exec']>>;

/** The library waits for the handshake for ever. */
async function opened(action: string, opening: Promise<Socket>, signal: AbortSignal): Promise<Socket> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(HANDSHAKE_MS)]);
  try {
    return await new Promise((resolve, reject) => {
      opening.then(resolve, reject);
      const end = (): void => reject(new Error(signal.aborted ? 'it was given up' : 'no answer in time'));
      limit.addEventListener('abort', end);
      if (limit.aborted) end();
    });
  } catch (error) {
    opening.then(
      (late) => late.terminate(),
      // It was not opened, as wished.
      () => undefined,
    );
    throw handshakeError(action, error);
  }
}

/** Resolves when the other side has ended the connection, or at once when the signal comes. */
function closed(socket: Socket, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    // close() would wait for the other side to say goodbye.
    const end = (): void => socket.terminate();
    socket.onclose = () => {
      signal.removeEventListener('abort', end);
      resolve();
    };
    signal.addEventListener('abort', end);
    if (signal.aborted) end();
    if (socket.readyState === socket.CLOSED) resolve();
  });
}

/** Characters are not cut where a chunk ends. */
function textSink(onText: (text: string) => void): Writable {
  const decoder = new StringDecoder('utf8');
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      onText(decoder.write(chunk));
      done();
    },
  });
}

/** What the kubelet says at the end: success, or a failure whose causes have the exit status. */
function exitStatus(action: string, { status, message, details, code, reason }: V1Status): number {
  if (status === 'Success') return 0;
  const text = details?.causes?.find((cause) => cause.reason === 'ExitCode')?.message;
  if (text !== undefined) return Number(text);
  throw new ClusterError(action, {
    status: code ?? 500,
    reason: reason ?? 'Failure',
    detail: message ?? 'no details',
  });
}

/** The WebSocket says "Unexpected server response: 403" and nothing of what the API server wrote. */
function handshakeError(action: string, event: unknown): ClusterError {
  const message =
    typeof event === 'object' && event !== null && 'message' in event ? String(event.message) : String(event);
  const status = Number(/Unexpected server response: (\d+)/.exec(message)?.[1] ?? 0);
  if (status === 0) return noAnswer(action, new Error(message));
  const reasons: Readonly<Record<number, string>> = {
    401: 'Unauthorized',
    403: 'Forbidden',
    404: 'NotFound',
  };
  return new ClusterError(action, {
    status,
    reason: reasons[status] ?? `HTTP${status}`,
    detail: 'the API server did not allow, or could not do, an exec',
  });
}
