// SPDX-License-Identifier: Apache-2.0
/**
 * The base class of @dot-i/k8s-operator, with what it does over the network replaced.
 *
 * Kept are its life cycle (start, init), its events and its flow of finalizers. Replaced are the watch (its own
 * ends the process when a connection breaks, loses deletions, and drops an event whose handler failed), and
 * every write (its own reach no server with this client, and hide errors).
 */
import dotI, { type ResourceEvent, type ResourceMeta } from '@dot-i/k8s-operator';
import type { Cluster, ListScope, Watched } from '../cluster-ports.ts';
import { apiVersionOf, type KubeObject, keyOf, type ResourceType } from '../core/kube-object.ts';
import type { PooledKubeConfig } from './kubernetes-client.ts';

// A CommonJS module: its default export arrives as a property.
const { default: Operator, ResourceEventType, ResourceMetaImpl } = dotI;

/** Calls `work` for each key that was added, one at a time per key, again after a failure. */
export interface KeyedQueue {
  add(key: string): void;
  stop(): Promise<void>;
}

export interface OperatorLog {
  debug(message: string): void;
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

export interface OperatorBaseOptions {
  readonly cluster: Cluster;
  readonly config: PooledKubeConfig;
  readonly log: OperatorLog;
  readonly createQueue: (work: (key: string) => Promise<void>) => KeyedQueue;
  /** Writes made for the status. */
  readonly statusManager: string;
}

type OnEvent = (event: ResourceEvent) => Promise<void>;

interface Handled {
  readonly type: ResourceType;
  readonly store: Watched;
  readonly onEvent: OnEvent;
  /** Objects that onEvent has seen: what it has seen and the store has no longer is Deleted. */
  readonly known: Map<string, KubeObject>;
}

export abstract class OperatorBase extends Operator {
  protected readonly cluster: Cluster;
  readonly #options: OperatorBaseOptions;
  readonly #queue: KeyedQueue;
  readonly #handled = new Map<string, Handled>();
  readonly #finalized = new Map<ResourceMeta, KubeObject>();

  constructor(options: OperatorBaseOptions) {
    super(options.log);
    this.#options = options;
    this.cluster = options.cluster;
    this.kubeConfig = options.config;
    this.#queue = options.createQueue((key) => this.#work(key));
  }

  /** The kinds that init() chose to watch. */
  protected abstract typeOf(group: string, version: string, plural: string): ResourceType;

  /** Ends the watches; resolves when what is being worked on has ended. */
  async shutdown(): Promise<void> {
    for (const { store } of this.#handled.values()) store.stop();
    await this.#queue.stop();
  }

  override stop(): void {
    void this.shutdown();
  }

  protected override async watchResource(
    group: string,
    version: string,
    plural: string,
    onEvent: OnEvent,
    namespace?: string,
  ): Promise<void> {
    const type = this.typeOf(group, version, plural);
    const scope: ListScope = namespace === undefined ? {} : { namespace };
    const store = this.cluster.watch(type, scope, {
      onChange: (name) => this.#queue.add(`${plural}/${keyOf(name)}`),
    });
    this.#handled.set(plural, { type, store, onEvent, known: new Map() });
  }

  /** What watchResource() follows. */
  protected storeOf(plural: string): Watched {
    const handled = this.#handled.get(plural);
    if (handled === undefined) throw new Error(`${plural} are not watched`);
    return handled.store;
  }

  /** Works on every object again, also on those that did not change. */
  protected resync(): void {
    for (const [plural, { store, known }] of this.#handled) {
      const names = [...store.list(), ...known.values()].map((object) => keyOf(object.metadata));
      for (const name of new Set(names)) this.#queue.add(`${plural}/${name}`);
    }
  }

  protected override getCustomResourceApiUri(
    group: string,
    version: string,
    plural: string,
    namespace?: string,
  ): string {
    const scope = namespace === undefined ? '' : `namespaces/${namespace}/`;
    const root = group === '' ? `/api/${version}/` : `/apis/${group}/${version}/`;
    return `${this.kubeConfig.getCurrentCluster()?.server ?? ''}${root}${scope}${plural}`;
  }

  /**
   * Adds the finalizer; from an object that is being deleted it is taken away. By the base class's flow.
   * @returns the object as written, or undefined if nothing was to be done
   */
  async settleFinalizer(
    plural: string,
    object: KubeObject,
    finalizer: string,
  ): Promise<KubeObject | undefined> {
    const event = eventOf(plural, ResourceEventType.Modified, object);
    await this.handleResourceFinalizer(event, finalizer, async () => undefined);
    const written = this.#finalized.get(event.meta);
    this.#finalized.delete(event.meta);
    return written;
  }

  protected override async setResourceFinalizers(meta: ResourceMeta, finalizers: string[]): Promise<void> {
    const { type } = this.#handledOf(meta);
    // With the version: without it the array would undo what others have added since.
    const { metadata, ...object } = objectOf(meta);
    const versioned = { ...object, metadata: { ...metadata, resourceVersion: meta.resourceVersion } };
    this.#finalized.set(meta, await this.cluster.setFinalizers(type, versioned as KubeObject, finalizers));
  }

  protected override async setResourceStatus(meta: ResourceMeta, status: unknown): Promise<ResourceMeta> {
    const { type } = this.#handledOf(meta);
    const { statusManager } = this.#options;
    const body = { ...objectOf(meta), status };
    const written = await this.cluster.applyStatus(type, body, {
      manager: statusManager,
      onConflict: 'TakeOver',
    });
    return ResourceMetaImpl.createWithId(meta.id, written as never);
  }

  protected override patchResourceStatus(meta: ResourceMeta, status: unknown): Promise<ResourceMeta> {
    return this.setResourceStatus(meta, status);
  }

  protected override registerCustomResourceDefinition(): Promise<never> {
    return Promise.reject(new Error('the chart installs the custom resource definitions'));
  }

  async #work(key: string): Promise<void> {
    const slash = key.indexOf('/');
    const plural = key.slice(0, slash);
    const name = key.slice(slash + 1);
    const handled = this.#handled.get(plural);
    if (handled === undefined) return;
    const { known, onEvent, store, type } = handled;
    const object = store.get(parseKey(name, type));
    const before = known.get(name);
    if (object !== undefined) {
      const eventType = before === undefined ? ResourceEventType.Added : ResourceEventType.Modified;
      known.set(name, object);
      await onEvent(eventOf(plural, eventType, object));
    } else if (before !== undefined) {
      await onEvent(eventOf(plural, ResourceEventType.Deleted, before));
      known.delete(name);
    }
  }

  #handledOf(meta: ResourceMeta): Handled {
    for (const [plural, handled] of this.#handled) {
      if (meta.id === `${plural}.${apiVersionOf(handled.type)}`) return handled;
    }
    throw new Error(`${meta.id} is not watched`);
  }
}

/** A copy: the base class changes the array of finalizers that it is given. */
function eventOf(
  plural: string,
  type: (typeof ResourceEventType)[keyof typeof ResourceEventType],
  object: KubeObject,
): ResourceEvent {
  const copy = structuredClone(object) as never;
  return { type, object: copy, meta: ResourceMetaImpl.createWithPlural(plural, copy) };
}

function objectOf(meta: ResourceMeta): KubeObject {
  return {
    apiVersion: meta.apiVersion,
    kind: meta.kind,
    metadata: { name: meta.name, ...(meta.namespace === undefined ? {} : { namespace: meta.namespace }) },
  };
}

function parseKey(key: string, type: ResourceType): { readonly name: string; readonly namespace?: string } {
  const slash = key.indexOf('/');
  if (!type.namespaced || slash < 0) return { name: key };
  return { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}
