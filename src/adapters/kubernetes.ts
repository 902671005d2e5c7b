// SPDX-License-Identifier: Apache-2.0
/** The API server: get, list, server-side apply, status, Events, watch. */
import { randomBytes } from 'node:crypto';
import type {
  ApplyOptions,
  Cluster,
  Happening,
  ListScope,
  Watched,
  WatchHandlers,
  WatchScope,
} from '../cluster-ports.ts';
import { isExpired, isMissing } from '../core/cluster-error.ts';
import { type FieldTree, keepFields } from '../core/kept-fields.ts';
import {
  apiVersionOf,
  describeObject,
  type KubeObject,
  type ObjectName,
  type ResourceType,
} from '../core/kube-object.ts';
import { EVENTS } from '../core/resource-types.ts';
import { KubernetesClient, type OnAnswer, type PooledKubeConfig } from './kubernetes-client.ts';
import { BookmarkWatch, InformerStore, withKind, withoutManagedFields } from './kubernetes-watch.ts';

const PAGE = 500;
/** The API server takes no longer ones. */
const MAX_EVENT_MESSAGE = 1024;

export interface KubernetesOptions {
  readonly config: PooledKubeConfig;
  /** Who Events are from: "ipvs-bpf-operator". */
  readonly component: string;
  /** The pod, or node, that Events are from. */
  readonly instance: string;
  readonly onAnswer?: OnAnswer;
}

export class KubernetesCluster implements Cluster {
  readonly #client: KubernetesClient;
  readonly #options: KubernetesOptions;

  constructor(options: KubernetesOptions) {
    this.#options = options;
    this.#client = new KubernetesClient(options.config, options.onAnswer);
  }

  async get(type: ResourceType, name: ObjectName): Promise<KubeObject | undefined> {
    const action = `get ${describeObject(type.kind, name)}`;
    try {
      return this.#object(await this.#client.request('GET', pathOf(type, name), { action }));
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  async list(type: ResourceType, scope: ListScope = {}): Promise<readonly KubeObject[]> {
    return (await this.#list(type, scope)).items;
  }

  async apply(type: ResourceType, object: KubeObject, options: ApplyOptions): Promise<KubeObject> {
    return await this.#apply(type, object, options, '');
  }

  async applyStatus(type: ResourceType, object: KubeObject, options: ApplyOptions): Promise<KubeObject> {
    return await this.#apply(type, object, options, '/status');
  }

  async create(type: ResourceType, object: KubeObject): Promise<KubeObject> {
    const { namespace } = object.metadata;
    return this.#object(
      await this.#client.request('POST', collectionPath(type, namespace), {
        action: `create ${describeObject(type.kind, object.metadata)}`,
        body: object,
      }),
    );
  }

  async replace(type: ResourceType, object: KubeObject): Promise<KubeObject> {
    return this.#object(
      await this.#client.request('PUT', pathOf(type, object.metadata), {
        action: `replace ${describeObject(type.kind, object.metadata)}`,
        body: object,
      }),
    );
  }

  async setFinalizers(
    type: ResourceType,
    object: KubeObject,
    finalizers: readonly string[],
  ): Promise<KubeObject> {
    const { uid, resourceVersion } = object.metadata;
    return this.#object(
      await this.#client.request('PATCH', pathOf(type, object.metadata), {
        action: `set finalizers of ${describeObject(type.kind, object.metadata)}`,
        contentType: 'application/merge-patch+json',
        body: { metadata: { uid, resourceVersion, finalizers } },
      }),
    );
  }

  async delete(type: ResourceType, name: ObjectName, uid?: string): Promise<boolean> {
    try {
      await this.#client.request('DELETE', pathOf(type, name), {
        action: `delete ${describeObject(type.kind, name)}`,
        body: { propagationPolicy: 'Background', ...(uid === undefined ? {} : { preconditions: { uid } }) },
      });
      return true;
    } catch (error) {
      if (isMissing(error)) return false;
      throw error;
    }
  }

  async record({ about, type, reason, message }: Happening): Promise<void> {
    const { name, namespace = 'default', uid, resourceVersion } = about.metadata;
    const now = new Date().toISOString();
    await this.create(EVENTS, {
      apiVersion: apiVersionOf(EVENTS),
      kind: EVENTS.kind,
      metadata: { name: `${name}.${randomBytes(8).toString('hex')}`, namespace },
      involvedObject: {
        apiVersion: about.apiVersion,
        kind: about.kind,
        name,
        uid,
        resourceVersion,
        ...(about.metadata.namespace === undefined ? {} : { namespace }),
      },
      type,
      reason,
      message: message.slice(0, MAX_EVENT_MESSAGE),
      source: { component: this.#options.component, host: this.#options.instance },
      reportingComponent: this.#options.component,
      reportingInstance: this.#options.instance,
      firstTimestamp: now,
      lastTimestamp: now,
      count: 1,
    });
  }

  watch(type: ResourceType, { fields = true, ...scope }: WatchScope, handlers: WatchHandlers): Watched {
    return new InformerStore({
      type,
      path: collectionPath(type, scope.namespace),
      labelSelector: scope.labelSelector,
      fieldSelector: scope.fieldSelector,
      list: () => this.#list(type, scope, fields),
      handlers,
      watch: new BookmarkWatch(this.#options.config, fields),
    });
  }

  async #apply(
    type: ResourceType,
    object: KubeObject,
    { manager, onConflict = 'Fail' }: ApplyOptions,
    subresource: '' | '/status',
  ): Promise<KubeObject> {
    const what = subresource === '' ? 'apply' : 'apply status of';
    return this.#object(
      await this.#client.request('PATCH', pathOf(type, object.metadata) + subresource, {
        action: `${what} ${describeObject(type.kind, object.metadata)}`,
        contentType: 'application/apply-patch+yaml',
        query: { fieldManager: manager, force: String(onConflict === 'TakeOver'), fieldValidation: 'Strict' },
        body: object,
      }),
    );
  }

  /** In pages; a list whose next page is gone, because it took too long, is begun again and got whole. */
  async #list(
    type: ResourceType,
    scope: ListScope,
    fields: FieldTree = true,
  ): Promise<{ readonly items: KubeObject[]; readonly resourceVersion: string }> {
    try {
      return await this.#pages(type, scope, fields, PAGE);
    } catch (error) {
      if (!isExpired(error)) throw error;
      return await this.#pages(type, scope, fields);
    }
  }

  async #pages(
    type: ResourceType,
    { namespace, labelSelector, fieldSelector }: ListScope,
    fields: FieldTree,
    limit?: number,
  ): Promise<{ readonly items: KubeObject[]; readonly resourceVersion: string }> {
    const items: KubeObject[] = [];
    let next: string | undefined;
    let resourceVersion = '';
    do {
      const page = (await this.#client.request('GET', collectionPath(type, namespace), {
        action: `list ${type.plural}`,
        query: { limit, continue: next, labelSelector, fieldSelector },
      })) as {
        readonly items: readonly KubeObject[] | null;
        readonly metadata: { readonly resourceVersion: string; readonly continue?: string };
      };
      for (const item of page.items ?? []) items.push(keepFields(withKind(type, item), fields));
      resourceVersion = page.metadata.resourceVersion;
      next = page.metadata.continue || undefined;
    } while (next !== undefined);
    return { items, resourceVersion };
  }

  #object(answer: unknown): KubeObject {
    return withoutManagedFields(answer as KubeObject);
  }
}

function collectionPath(type: ResourceType, namespace: string | undefined): string {
  const root = type.group === '' ? '/api' : '/apis';
  const scope =
    type.namespaced && namespace !== undefined ? `/namespaces/${encodeURIComponent(namespace)}` : '';
  return `${root}/${apiVersionOf(type)}${scope}/${type.plural}`;
}

function pathOf(type: ResourceType, { name, namespace }: ObjectName): string {
  if (type.namespaced && namespace === undefined) throw new Error(`${type.kind} ${name} needs a namespace`);
  return `${collectionPath(type, namespace)}/${encodeURIComponent(name)}`;
}
