// SPDX-License-Identifier: Apache-2.0
/** Stores that follow the API server, on the library's informer, with what that one lacks. */
import * as k8s from '@kubernetes/client-node';
import type { Watched, WatchHandlers } from '../cluster-ports.ts';
import { ClusterError } from '../core/cluster-error.ts';
import { type FieldTree, keepFields } from '../core/kept-fields.ts';
import { apiVersionOf, type KubeObject, type ObjectName, type ResourceType } from '../core/kube-object.ts';
import { noAnswer } from './kubernetes-client.ts';

/** The API server ends a watch after about this time, and it is started again. */
const WATCH_SECONDS = 240;
const FIRST_BACKOFF_MS = 500;
const MAX_BACKOFF_MS = 30_000;

/**
 * A watch with bookmarks. While there is nothing to tell, the API server still sends a bookmark about every
 * minute, so a connection without a word for much longer is taken for dead.
 */
export class BookmarkWatch extends k8s.Watch {
  readonly #fields: FieldTree;

  /** @param fields what is kept of each object */
  constructor(config: k8s.KubeConfig, fields: FieldTree) {
    super(config);
    this.#fields = fields;
    (this as unknown as { requestTimeoutMs: number }).requestTimeoutMs = (WATCH_SECONDS * 1.2 + 30) * 1000;
  }

  override async watch(
    path: string,
    query: Record<string, string | number | boolean | undefined>,
    callback: (phase: string, object: KubeObject, event?: unknown) => void,
    done: (error: unknown) => void,
  ): Promise<AbortController> {
    const timeoutSeconds = Math.round(WATCH_SECONDS * (0.8 + 0.4 * Math.random()));
    try {
      return await super.watch(
        path,
        { ...query, allowWatchBookmarks: true, timeoutSeconds },
        (phase, object, event) => callback(phase, this.#kept(phase, object), event),
        done,
      );
    } catch (error) {
      // Thrown before the request, when the token cannot be read: the library would end the process.
      done(error);
      return new AbortController();
    }
  }

  /** An error and a bookmark are no objects of the kind that is watched. */
  #kept(phase: string, object: KubeObject): KubeObject {
    const isObject = phase === 'ADDED' || phase === 'MODIFIED' || phase === 'DELETED';
    return isObject ? keepFields(withoutManagedFields(object), this.#fields) : object;
  }
}

/** They are half of an object's size, and nobody here reads them. */
export function withoutManagedFields<T extends KubeObject>(object: T): T {
  const metadata = object?.metadata as { managedFields?: unknown } | undefined;
  if (metadata !== undefined) delete metadata.managedFields;
  return object;
}

/** The library's type has dates where JSON has strings. */
type Wire = k8s.KubernetesObject;

export interface WatchOptions {
  readonly type: ResourceType;
  /** "/api/v1/namespaces/x/pods" */
  readonly path: string;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
  /** All objects, and the resourceVersion that the watch goes on from. */
  readonly list: () => Promise<{ readonly items: KubeObject[]; readonly resourceVersion: string }>;
  readonly handlers: WatchHandlers;
  readonly watch: k8s.Watch;
}

export class InformerStore implements Watched {
  readonly synced: Promise<void>;
  readonly #options: WatchOptions;
  readonly #informer: k8s.ListWatch<Wire>;
  readonly #action: string;
  #resolveSynced: () => void = () => undefined;
  #hasSynced = false;
  #problem: string | undefined;
  #failures = 0;
  #stopped = false;
  #timer: NodeJS.Timeout | undefined;
  /** Undefined once something has changed since it was made. */
  #listed: readonly KubeObject[] | undefined;

  constructor(options: WatchOptions) {
    this.#options = options;
    this.#action = `watch ${options.type.plural}`;
    this.synced = new Promise((resolve) => {
      this.#resolveSynced = resolve;
    });
    this.#informer = this.#createInformer();
    void this.#start();
  }

  get hasSynced(): boolean {
    return this.#hasSynced;
  }

  get problem(): string | undefined {
    return this.#problem;
  }

  list(): readonly KubeObject[] {
    this.#listed ??= this.#informer.list() as unknown as readonly KubeObject[];
    return this.#listed;
  }

  get({ name, namespace }: ObjectName): KubeObject | undefined {
    return this.#informer.get(name, namespace) as KubeObject | undefined;
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    void this.#informer.stop();
  }

  #createInformer(): k8s.ListWatch<Wire> {
    const { path, watch, labelSelector, fieldSelector, handlers } = this.#options;
    const list = async () => {
      const { items, resourceVersion } = await this.#options.list();
      // The informer takes the items over when this function has returned.
      setImmediate(() => this.#onListed());
      return {
        apiVersion: 'v1',
        kind: 'List',
        metadata: { resourceVersion },
        items: items as unknown as Wire[],
      };
    };
    const informer = new k8s.ListWatch<Wire>(path, watch, list, false, labelSelector, fieldSelector);
    informer.on('change', (object) => {
      this.#listed = undefined;
      this.#recovered();
      if (this.#stopped) return;
      const { name, namespace } = (object as unknown as KubeObject).metadata;
      handlers.onChange(namespace === undefined ? { name } : { name, namespace });
    });
    informer.on('error', (error: unknown) => this.#onError(error));
    return informer;
  }

  #onListed(): void {
    if (this.#stopped) return;
    this.#recovered();
    if (this.#hasSynced) return;
    this.#hasSynced = true;
    this.#resolveSynced();
    this.#options.handlers.onState?.();
  }

  #recovered(): void {
    this.#failures = 0;
    if (this.#problem === undefined) return;
    this.#problem = undefined;
    this.#options.handlers.onState?.();
  }

  #onError(error: unknown): void {
    if (this.#stopped) return;
    this.#failures += 1;
    this.#problem = this.#asClusterError(error).message;
    this.#options.handlers.onState?.();
    const pause = Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** Math.min(this.#failures - 1, 10));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#start(), pause * (0.75 + 0.5 * Math.random()));
  }

  async #start(): Promise<void> {
    if (this.#stopped) return;
    const failures = this.#failures;
    try {
      await this.#informer.start();
      // It resolves also when it has failed; without a failure the watch is up.
      if (this.#failures === failures && this.#hasSynced) this.#recovered();
    } catch (error) {
      this.#onError(error);
    }
  }

  /** Errors of a watch have a status but no words of the API server. */
  #asClusterError(error: unknown): ClusterError {
    if (error instanceof ClusterError) return error;
    const status = (error as { readonly statusCode?: unknown } | null)?.statusCode;
    if (typeof status !== 'number') return noAnswer(this.#action, error);
    const detail = error instanceof Error ? error.message : String(error);
    return new ClusterError(this.#action, { status, reason: detail.replaceAll(' ', ''), detail });
  }
}

/** Items of a list of a built-in kind do not say what they are. */
export function withKind(type: ResourceType, item: KubeObject): KubeObject {
  return { ...withoutManagedFields(item), apiVersion: apiVersionOf(type), kind: type.kind };
}
