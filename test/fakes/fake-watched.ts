// SPDX-License-Identifier: Apache-2.0
/** A watch of the API server in memory. */
import type { Cluster, ListScope, Watched, WatchHandlers, WatchScope } from '../../src/cluster-ports.ts';
import { keepFields } from '../../src/core/kept-fields.ts';
import { type KubeObject, keyOf, type ObjectName, type ResourceType } from '../../src/core/kube-object.ts';

export class FakeWatched implements Watched {
  hasSynced = false;
  problem: string | undefined;
  readonly synced: Promise<void>;
  readonly #cluster: Pick<Cluster, 'list'>;
  readonly #type: ResourceType;
  readonly #scope: WatchScope;
  readonly #handlers: WatchHandlers;
  #objects = new Map<string, KubeObject>();
  #listed: readonly KubeObject[] | undefined;
  #stopped = false;

  constructor(
    cluster: Pick<Cluster, 'list'>,
    type: ResourceType,
    scope: WatchScope,
    handlers: WatchHandlers,
  ) {
    this.#cluster = cluster;
    this.#type = type;
    this.#scope = scope;
    this.#handlers = handlers;
    this.synced = this.#start();
  }

  list(): readonly KubeObject[] {
    this.#listed ??= [...this.#objects.values()];
    return this.#listed;
  }

  get(name: ObjectName): KubeObject | undefined {
    return this.#objects.get(keyOf(name));
  }

  stop(): void {
    this.#stopped = true;
  }

  /** A watch tells later than a write is answered. */
  changed(type: ResourceType, object: KubeObject, all: readonly KubeObject[]): void {
    if (type.plural !== this.#type.plural || type.group !== this.#type.group) return;
    if (!this.hasSynced || !isInScope(object, this.#scope)) return;
    setTimeout(() => this.#take(object, all), 5);
  }

  #take(object: KubeObject, all: readonly KubeObject[]): void {
    if (this.#stopped) return;
    this.#listed = undefined;
    const key = keyOf(object.metadata);
    const now = all.find((one) => keyOf(one.metadata) === key);
    if (now === undefined) this.#objects.delete(key);
    else this.#objects.set(key, this.#kept(now));
    const { name, namespace } = object.metadata;
    this.#handlers.onChange(namespace === undefined ? { name } : { name, namespace });
  }

  #kept(object: KubeObject): KubeObject {
    return keepFields(object, this.#scope.fields ?? true);
  }

  async #start(): Promise<void> {
    for (;;) {
      try {
        const items = await this.#cluster.list(this.#type, this.#scope);
        if (this.#stopped) return;
        this.#objects = new Map(items.map((item) => [keyOf(item.metadata), this.#kept(item)]));
        this.#listed = undefined;
        this.hasSynced = true;
        this.problem = undefined;
        for (const { metadata } of items) this.#handlers.onChange(metadata);
        this.#handlers.onState?.();
        return;
      } catch (error) {
        this.problem = error instanceof Error ? error.message : String(error);
        this.#handlers.onState?.();
        await new Promise((resolve) => setTimeout(resolve, 20));
        if (this.#stopped) return;
      }
    }
  }
}

export function isInScope(
  { metadata }: KubeObject,
  { namespace, labelSelector, fieldSelector }: ListScope,
): boolean {
  if (namespace !== undefined && metadata.namespace !== namespace) return false;
  const [, name] = fieldSelector?.split('metadata.name=') ?? [];
  if (name !== undefined && metadata.name !== name) return false;
  const labels = (labelSelector ?? '').split(',').filter(Boolean);
  return labels.every((pair) => metadata.labels?.[pair.split('=')[0] ?? ''] === pair.split('=')[1]);
}
