// SPDX-License-Identifier: Apache-2.0
/** An API server in memory: versions, generations, server-side apply with owners of fields, watches. */
import type {
  ApplyOptions,
  Cluster,
  Happening,
  ListScope,
  Watched,
  WatchHandlers,
  WatchScope,
} from '../../src/cluster-ports.ts';
import { ClusterError } from '../../src/core/cluster-error.ts';
import {
  apiVersionOf,
  type KubeObject,
  keyOf,
  type ObjectName,
  type ResourceType,
} from '../../src/core/kube-object.ts';
import { FakeWatched, isInScope } from './fake-watched.ts';
import { type Fields, leaves, mergeFields, removeLeaf } from './field-owners.ts';

interface Stored {
  object: KubeObject;
  /** Manager and subresource → paths that it owns. */
  owners: Map<string, ReadonlySet<string>>;
}

type Method = keyof Cluster;

export class FakeCluster implements Cluster {
  /** Every write that was done, "apply IpvsBpfNode/n1". */
  readonly writes: string[] = [];
  readonly events: Happening[] = [];
  /** Answers instead of the server, for tests of what goes wrong; undefined lets the call through. */
  refuse: (method: Method, type: ResourceType, name: string) => ClusterError | undefined = () => undefined;
  readonly #objects = new Map<string, Stored>();
  readonly #watches = new Set<FakeWatched>();
  #version = 100;

  async get(type: ResourceType, name: ObjectName): Promise<KubeObject | undefined> {
    await this.#enter('get', type, keyOf(name));
    return structuredClone(this.#objects.get(id(type, name))?.object);
  }

  async list(type: ResourceType, scope: ListScope = {}): Promise<readonly KubeObject[]> {
    await this.#enter('list', type, '');
    return this.select(type, scope);
  }

  async apply(type: ResourceType, object: KubeObject, options: ApplyOptions): Promise<KubeObject> {
    await this.#enter('apply', type, keyOf(object.metadata));
    const found = this.#objects.get(id(type, object.metadata));
    const { status: _, ...wanted } = object;
    return this.#merge(type, wanted as KubeObject, options, found);
  }

  async applyStatus(type: ResourceType, object: KubeObject, options: ApplyOptions): Promise<KubeObject> {
    await this.#enter('applyStatus', type, keyOf(object.metadata));
    const found = this.#existing('apply status of', type, object.metadata);
    checkUid('apply status of', found.object, object.metadata.uid);
    const { apiVersion, kind, metadata, status } = object;
    const wanted = { apiVersion, kind, metadata: { name: metadata.name }, status } as KubeObject;
    return this.#merge(type, wanted, options, found, 'status');
  }

  async create(type: ResourceType, object: KubeObject): Promise<KubeObject> {
    await this.#enter('create', type, keyOf(object.metadata));
    if (this.#objects.has(id(type, object.metadata)))
      throw conflict('create', 'AlreadyExists', 'already exists');
    const { status: _, ...rest } = object;
    return this.#store(type, { object: this.#fresh(rest as KubeObject), owners: new Map() }, 'create');
  }

  async replace(type: ResourceType, object: KubeObject): Promise<KubeObject> {
    await this.#enter('replace', type, keyOf(object.metadata));
    const found = this.#existing('replace', type, object.metadata);
    checkVersion('replace', found.object, object.metadata.resourceVersion);
    const { uid, creationTimestamp, generation } = found.object.metadata;
    const metadata = { ...object.metadata, uid, creationTimestamp, generation } as KubeObject['metadata'];
    const status = found.object.status;
    const next = { ...object, metadata, ...(status === undefined ? {} : { status }) };
    return this.#store(type, { ...found, object: grown(found.object, next) }, 'replace');
  }

  async setFinalizers(
    type: ResourceType,
    object: KubeObject,
    finalizers: readonly string[],
  ): Promise<KubeObject> {
    await this.#enter('setFinalizers', type, keyOf(object.metadata));
    const found = this.#existing('set finalizers of', type, object.metadata);
    checkVersion('set finalizers of', found.object, object.metadata.resourceVersion);
    const metadata = { ...found.object.metadata, finalizers: [...finalizers] };
    const next = { ...found, object: { ...found.object, metadata } };
    if (metadata.deletionTimestamp !== undefined && finalizers.length === 0) return this.#remove(type, next);
    return this.#store(type, next, 'setFinalizers');
  }

  async delete(type: ResourceType, name: ObjectName, uid?: string): Promise<boolean> {
    await this.#enter('delete', type, keyOf(name));
    const found = this.#objects.get(id(type, name));
    if (found === undefined) return false;
    checkUid('delete', found.object, uid);
    const { metadata } = found.object;
    if ((metadata.finalizers ?? []).length === 0) this.#remove(type, found);
    else if (metadata.deletionTimestamp === undefined) {
      const doomed = { ...metadata, deletionTimestamp: new Date().toISOString() };
      this.#store(type, { ...found, object: { ...found.object, metadata: doomed } }, 'delete');
    }
    return true;
  }

  async record(happening: Happening): Promise<void> {
    await this.#enter('record', { kind: 'Event' } as ResourceType, '');
    this.events.push(happening);
  }

  watch(type: ResourceType, scope: WatchScope, handlers: WatchHandlers): Watched {
    const watched = new FakeWatched(this, type, scope, handlers);
    this.#watches.add(watched);
    return watched;
  }

  /** A copy of what the scope selects, by name. */
  select(type: ResourceType, scope: ListScope): KubeObject[] {
    const prefix = `${type.group}/${type.plural}/`;
    const found = [...this.#objects].filter(
      ([key, { object }]) => key.startsWith(prefix) && isInScope(object, scope),
    );
    return found.sort(([a], [b]) => (a < b ? -1 : 1)).map(([, { object }]) => structuredClone(object));
  }

  /** What somebody else does, without an entry in `writes`: the object is made like this, status included. */
  put(type: ResourceType, object: Omit<KubeObject, 'apiVersion' | 'kind'>): KubeObject {
    const full = { apiVersion: apiVersionOf(type), kind: type.kind, ...object } as KubeObject;
    const found = this.#objects.get(id(type, full.metadata));
    const next =
      found === undefined
        ? this.#fresh(full)
        : grown(found.object, { ...full, metadata: { ...found.object.metadata, ...full.metadata } });
    return this.#store(type, { object: next, owners: found?.owners ?? new Map() });
  }

  async #enter(method: Method, type: ResourceType, name: string): Promise<void> {
    await Promise.resolve();
    const refused = this.refuse(method, type, name);
    if (refused !== undefined) throw refused;
  }

  #existing(action: string, type: ResourceType, name: ObjectName): Stored {
    const found = this.#objects.get(id(type, name));
    if (found !== undefined) return found;
    const detail = `${type.plural} "${name.name}" not found`;
    throw new ClusterError(`${action} ${type.kind} ${keyOf(name)}`, {
      status: 404,
      reason: 'NotFound',
      detail,
    });
  }

  #merge(
    type: ResourceType,
    wanted: KubeObject,
    { manager, onConflict = 'Fail' }: ApplyOptions,
    found: Stored | undefined,
    subresource = '',
  ): KubeObject {
    const owner = `${manager}/${subresource}`;
    const { apiVersion: _a, kind: _k, metadata, ...content } = wanted;
    const { name: _n, namespace: _s, uid: _u, ...ownMeta } = metadata;
    const paths = leaves({ ...content, metadata: ownMeta } as Fields);
    const owners = new Map(found?.owners);
    const base = found?.object ?? this.#fresh({ ...wanted, metadata } as KubeObject);
    let object = base as unknown as Fields;
    for (const [other, owned] of owners) {
      if (other === owner) continue;
      const shared = [...paths.keys()].filter(
        (path) => owned.has(path) && !sameAt(object, path, paths.get(path)),
      );
      if (shared.length > 0 && onConflict === 'Fail') {
        throw conflict(
          `apply ${type.kind} ${keyOf(metadata)}`,
          'Conflict',
          `conflict with "${other}": ${shared[0]}`,
        );
      }
      owners.set(other, new Set([...owned].filter((path) => !shared.includes(path))));
    }
    const elsewhere = new Set([...owners].flatMap(([other, owned]) => (other === owner ? [] : [...owned])));
    for (const path of owners.get(owner) ?? []) {
      if (!paths.has(path) && !elsewhere.has(path)) object = removeLeaf(object, path);
    }
    object = mergeFields(object, { ...content, metadata: ownMeta } as Fields);
    owners.set(owner, new Set(paths.keys()));
    const next = grown(base, object as unknown as KubeObject);
    if (found !== undefined && JSON.stringify(next) === JSON.stringify(found.object)) {
      found.owners = owners;
      return structuredClone(next);
    }
    return this.#store(type, { object: next, owners }, subresource === '' ? 'apply' : 'applyStatus');
  }

  #fresh(object: KubeObject): KubeObject {
    this.#version += 1;
    return {
      ...object,
      metadata: {
        creationTimestamp: new Date().toISOString(),
        uid: `uid-${this.#version}`,
        generation: 1,
        ...object.metadata,
      },
    };
  }

  #store(type: ResourceType, stored: Stored, write?: Method): KubeObject {
    this.#version += 1;
    const metadata = { ...stored.object.metadata, resourceVersion: String(this.#version) };
    const object = structuredClone({ ...stored.object, metadata });
    this.#objects.set(id(type, metadata), { ...stored, object });
    if (write !== undefined) this.writes.push(`${write} ${type.kind}/${keyOf(metadata)}`);
    for (const watched of this.#watches) watched.changed(type, object, this.select(type, {}));
    return structuredClone(object);
  }

  #remove(type: ResourceType, { object }: Stored): KubeObject {
    this.#version += 1;
    this.#objects.delete(id(type, object.metadata));
    this.writes.push(`delete ${type.kind}/${keyOf(object.metadata)}`);
    for (const watched of this.#watches) watched.changed(type, object, this.select(type, {}));
    const metadata = { ...object.metadata, resourceVersion: String(this.#version) };
    return structuredClone({ ...object, metadata });
  }
}

function id(type: ResourceType, name: ObjectName): string {
  return `${type.group}/${type.plural}/${keyOf(name.namespace === undefined ? { name: name.name } : name)}`;
}

/** The generation counts what is wanted: all but metadata and status. */
function grown(before: KubeObject, after: KubeObject): KubeObject {
  const wanted = ({ metadata: _m, status: _s, ...rest }: KubeObject) => JSON.stringify(rest);
  const generation = (before.metadata.generation ?? 1) + (wanted(before) === wanted(after) ? 0 : 1);
  return { ...after, metadata: { ...after.metadata, generation } };
}

function sameAt(object: Fields, path: string, value: unknown): boolean {
  return JSON.stringify(leaves(object).get(path)) === JSON.stringify(value);
}

function conflict(action: string, reason: string, detail: string): ClusterError {
  return new ClusterError(action, { status: 409, reason, detail });
}

function checkVersion(action: string, found: KubeObject, version: string | undefined): void {
  if (version === undefined || version === found.metadata.resourceVersion) return;
  throw conflict(action, 'Conflict', 'the object has been modified');
}

function checkUid(action: string, found: KubeObject, uid: string | undefined): void {
  if (uid === undefined || uid === found.metadata.uid) return;
  throw conflict(action, 'Conflict', 'the uid is another');
}
