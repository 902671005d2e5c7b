// SPDX-License-Identifier: Apache-2.0
/** The Kubernetes API server, as types. Every method rejects with a ClusterError (core/cluster-error.ts). */
import type { FieldTree } from './core/kept-fields.ts';
import type { KubeObject, ObjectName, ResourceType } from './core/kube-object.ts';

export interface ApplyOptions {
  /** Who owns the fields from now on. */
  readonly manager: string;
  /** What happens when another manager owns one of them: an error (409), or it is taken over. */
  readonly onConflict?: 'Fail' | 'TakeOver';
}

export interface ListScope {
  /** Unset: all namespaces. */
  readonly namespace?: string;
  /** "app=x,tier!=y" */
  readonly labelSelector?: string;
  /** "metadata.name=n1" */
  readonly fieldSelector?: string;
}

export interface WatchScope extends ListScope {
  /** What the store keeps of each object, besides its name and version. Unset: everything but the owners of fields. */
  readonly fields?: FieldTree;
}

/** A store that follows the API server. */
export interface Watched {
  /** False until the first list is in. */
  readonly hasSynced: boolean;
  /** Resolves with the first list; never rejects: it is tried again until stop(). */
  readonly synced: Promise<void>;
  /** Why nothing new comes at the moment; undefined while all is well. */
  readonly problem: string | undefined;
  /** The very same array as long as nothing has changed, so that what was made of it holds, too. */
  list(): readonly KubeObject[];
  get(name: ObjectName): KubeObject | undefined;
  stop(): void;
}

export interface WatchHandlers {
  /** An object was added, changed or deleted. Must only note the name and return: it must not throw. */
  readonly onChange: (name: ObjectName) => void;
  /** The first list came in, or `problem` has changed. */
  readonly onState?: () => void;
}

/** An Event of the API server, about an object. */
export interface Happening {
  readonly about: KubeObject;
  readonly type: 'Normal' | 'Warning';
  /** One CamelCase word. */
  readonly reason: string;
  readonly message: string;
}

export interface Cluster {
  /** undefined if there is no such object (or no such kind). */
  get(type: ResourceType, name: ObjectName): Promise<KubeObject | undefined>;
  /** All of them, in pages. */
  list(type: ResourceType, scope?: ListScope): Promise<readonly KubeObject[]>;
  /** Server-side apply: creates the object or makes these fields as given. `kubectl apply --server-side` */
  apply(type: ResourceType, object: KubeObject, options: ApplyOptions): Promise<KubeObject>;
  /** The same for the status alone. */
  applyStatus(type: ResourceType, object: KubeObject, options: ApplyOptions): Promise<KubeObject>;
  /** 409 if there is one of that name already. */
  create(type: ResourceType, object: KubeObject): Promise<KubeObject>;
  /** Writes the whole object; 409 if it is not the newest resourceVersion that was changed. */
  replace(type: ResourceType, object: KubeObject): Promise<KubeObject>;
  /** Sets all finalizers; 409 if the object is newer than `object.metadata.resourceVersion`. */
  setFinalizers(type: ResourceType, object: KubeObject, finalizers: readonly string[]): Promise<KubeObject>;
  /** True if it was there. With a uid only that very object is deleted (409 otherwise). */
  delete(type: ResourceType, name: ObjectName, uid?: string): Promise<boolean>;
  /** Writes an Event. */
  record(happening: Happening): Promise<void>;
  watch(type: ResourceType, scope: WatchScope, handlers: WatchHandlers): Watched;
}

export interface LogOptions {
  readonly container?: string;
  /** Newest lines. */
  readonly lines: number;
  /** Of the container that ran before the one that runs now. */
  readonly previous?: boolean;
}

export interface ExecOptions {
  readonly container: string;
  readonly command: readonly string[];
  /** Told of standard output as it comes, in whole characters. */
  readonly onOutput: (text: string) => void;
  /** Ends the connection; what runs in the pod may go on. */
  readonly signal: AbortSignal;
}

/** What pods say and do. Every method rejects with a ClusterError. */
export interface Pods {
  /** `kubectl logs` */
  log(pod: ObjectName, options: LogOptions): Promise<string>;
  /** `kubectl exec`; answers when the command has ended, with its status and its standard error. */
  exec(pod: ObjectName, options: ExecOptions): Promise<{ readonly status: number; readonly stderr: string }>;
}
