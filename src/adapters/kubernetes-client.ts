// SPDX-License-Identifier: Apache-2.0
/** HTTP to the API server: who we are, pooled connections, time limits, and errors that say what it said. */
import * as k8s from '@kubernetes/client-node';
import { Agent } from 'undici';
import { ClusterError } from '../core/cluster-error.ts';

const REQUEST_TIMEOUT_MS = 30_000;

/** Silence after which a connection is tried. IPVS forgets its connections when it is exchanged, without a word. */
const KEEP_ALIVE_AFTER_MS = 3_000;

/**
 * An idle connection is kept for the next request: each new one is a TLS handshake, and the Lease of a node is renewed
 * more rarely than the library closes its connections by default (4 s). The API server closes them after 90 s
 * (k8s.io/apiserver/pkg/server/secure_serving.go).
 */
const KEEP_IDLE_MS = 30_000;

/** Private methods of the library: it makes a new pool of connections for every single request. */
interface DispatcherMaker {
  createDispatcher(cluster: unknown, options: Readonly<Record<string, unknown>>): unknown;
  createDispatcherOptions(
    cluster: unknown,
    options: Readonly<Record<string, unknown>>,
  ): { readonly type: string; readonly connect?: object };
}

/**
 * A KubeConfig whose requests share connections. The key holds the certificates, so that rotated ones
 * get new connections.
 */
export class PooledKubeConfig extends k8s.KubeConfig {
  readonly #pool = new Map<string, unknown>();

  constructor() {
    super();
    const self = this as unknown as DispatcherMaker;
    const { createDispatcher: makeOther, createDispatcherOptions: makeOptions } = k8s.KubeConfig
      .prototype as unknown as DispatcherMaker;
    self.createDispatcherOptions = (cluster, options) => {
      const made = makeOptions.call(this, cluster, options);
      if (made.connect === undefined) return made;
      return { ...made, connect: { ...made.connect, keepAliveInitialDelay: KEEP_ALIVE_AFTER_MS } };
    };
    const make: DispatcherMaker['createDispatcher'] = (cluster, options) => {
      const { type, connect } = self.createDispatcherOptions(cluster, options);
      if (type !== 'agent' || connect === undefined) return makeOther.call(this, cluster, options);
      return new Agent({ connect, keepAliveTimeout: KEEP_IDLE_MS });
    };
    self.createDispatcher = (cluster, options) => {
      const { servername, rejectUnauthorized, ca, cert, key } = options;
      const parts = [this.getCurrentCluster(), servername, rejectUnauthorized, ca, cert, key];
      const id = JSON.stringify(
        parts.map((part) => (Buffer.isBuffer(part) ? part.toString('base64') : part)),
      );
      let dispatcher = this.#pool.get(id);
      if (dispatcher === undefined) {
        dispatcher = make(cluster, options);
        this.#pool.set(id, dispatcher);
      }
      return dispatcher;
    };
  }

  /** Ends all connections: a process with open ones does not end. */
  async close(): Promise<void> {
    // A cluster without settings of its own for TLS has undefined here: the process' own pool.
    const open = [...this.#pool.values()] as ({ destroy(): Promise<void> } | undefined)[];
    this.#pool.clear();
    await Promise.all(open.map((dispatcher) => dispatcher?.destroy()));
  }
}

/**
 * The kubeconfig file (or the one of the environment), or the service account of the pod that this runs in.
 * @param options.context Of the file; default the current one.
 * @param options.host API server to use instead, "https://10.0.0.1:6443"
 * @throws Error if the file cannot be read, or has no such context
 */
export function loadKubeConfig(
  options: {
    readonly file?: string | undefined;
    readonly context?: string | undefined;
    readonly host?: string | undefined;
  } = {},
): PooledKubeConfig {
  const config = new PooledKubeConfig();
  if (options.file !== undefined) config.loadFromFile(options.file);
  else config.loadFromDefault();
  const { context, host } = options;
  if (context !== undefined) {
    const known = config.contexts.map(({ name }) => name);
    if (!known.includes(context)) {
      throw new Error(`the kubeconfig has no context "${context}"; it has: ${known.join(', ') || 'none'}`);
    }
    config.setCurrentContext(context);
  }
  if (host !== undefined) config.clusters = config.clusters.map((cluster) => ({ ...cluster, server: host }));
  return config;
}

export interface RequestOptions {
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly body?: unknown;
  /** Default application/json */
  readonly contentType?: string;
  /** Default application/json */
  readonly accept?: string;
  /** What is being done, for the error: "apply Lease default/x". */
  readonly action: string;
}

/** Told of each request: its method, and the HTTP status of the answer; 0 if there was none. */
export type OnAnswer = (method: string, status: number) => void;

export class KubernetesClient {
  readonly config: PooledKubeConfig;
  readonly #http = k8s.createConfiguration().httpApi;
  readonly #onAnswer: OnAnswer | undefined;

  constructor(config: PooledKubeConfig, onAnswer?: OnAnswer) {
    this.config = config;
    this.#onAnswer = onAnswer;
  }

  /**
   * @param path "/api/v1/nodes"
   * @throws ClusterError
   */
  async request(
    method: keyof typeof k8s.HttpMethod,
    path: string,
    options: RequestOptions,
  ): Promise<unknown> {
    return parseJson(await this.requestText(method, path, options));
  }

  /** The same for what is no JSON: the log of a pod. */
  async requestText(
    method: keyof typeof k8s.HttpMethod,
    path: string,
    options: RequestOptions,
  ): Promise<string> {
    const { status, body } = await this.#send(method, path, options);
    this.#onAnswer?.(method, status);
    if (status >= 200 && status <= 299) return body;
    throw new ClusterError(options.action, { status, ...whatItSays(status, parseJson(body), body) });
  }

  async #send(
    method: keyof typeof k8s.HttpMethod,
    path: string,
    options: RequestOptions,
  ): Promise<{ readonly status: number; readonly body: string }> {
    try {
      const context = await this.#context(method, path, options);
      const response = await this.#http.send(context).toPromise();
      return { status: response.httpStatusCode, body: await response.body.text() };
    } catch (error) {
      this.#onAnswer?.(method, 0);
      throw noAnswer(options.action, error);
    }
  }

  async #context(
    method: keyof typeof k8s.HttpMethod,
    path: string,
    options: RequestOptions,
  ): Promise<k8s.RequestContext> {
    const cluster = this.config.getCurrentCluster();
    if (cluster === null) throw new Error('the kubeconfig names no cluster');
    const context = new k8s.RequestContext(cluster.server + path, k8s.HttpMethod[method]);
    for (const [name, value] of Object.entries(options.query ?? {})) {
      if (value !== undefined) context.setQueryParam(name, String(value));
    }
    context.setHeaderParam('Accept', options.accept ?? 'application/json');
    if (options.body !== undefined) {
      context.setHeaderParam('Content-Type', options.contentType ?? 'application/json');
      context.setBody(JSON.stringify(options.body));
    }
    context.setSignal(AbortSignal.timeout(REQUEST_TIMEOUT_MS));
    await this.config.applySecurityAuthentication(context);
    return context;
  }
}

/** The error of a request that got no answer. */
export function noAnswer(action: string, error: unknown): ClusterError {
  const timedOut = error instanceof Error && error.name === 'TimeoutError';
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return new ClusterError(action, {
    status: 0,
    reason: timedOut ? 'Timeout' : 'Unreachable',
    detail: timedOut ? `no answer within ${REQUEST_TIMEOUT_MS / 1000} s` : messageOf(cause),
    cause: error,
  });
}

/** A failed connection to several addresses has no message of its own, only a code. */
function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.message !== '') return error.message;
  return 'code' in error ? String(error.code) : error.name;
}

function parseJson(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    // Proxies on the way answer in their own words; whatItSays() quotes them.
    return undefined;
  }
}

/** The API server answers errors with a Status object. */
function whatItSays(
  status: number,
  parsed: unknown,
  body: string,
): { readonly reason: string; readonly detail: string } {
  const answer = parsed as { readonly reason?: unknown; readonly message?: unknown } | undefined | null;
  return {
    reason: typeof answer?.reason === 'string' && answer.reason !== '' ? answer.reason : `HTTP${status}`,
    detail: typeof answer?.message === 'string' ? answer.message : body.trim().slice(0, 300) || 'no details',
  };
}
