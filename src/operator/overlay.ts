// SPDX-License-Identifier: Apache-2.0
/** A watched store in which our own writes show at once, not only when the watch has brought them back. */
import type { Watched } from '../cluster-ports.ts';
import { type KubeObject, keyOf } from '../core/kube-object.ts';

export class OverlayStore {
  readonly #store: Watched;
  /** By key: what we wrote last, and what we deleted last. */
  readonly #written = new Map<string, KubeObject>();
  readonly #deleted = new Map<string, KubeObject>();

  constructor(store: Watched) {
    this.#store = store;
  }

  get watched(): Watched {
    return this.#store;
  }

  /** Notes what the API server answered to a write. */
  wrote(object: KubeObject): void {
    const key = keyOf(object.metadata);
    this.#deleted.delete(key);
    this.#written.set(key, object);
  }

  /** Notes that an object, as it was last known, was deleted. */
  deleted(object: KubeObject): void {
    const key = keyOf(object.metadata);
    this.#written.delete(key);
    this.#deleted.set(key, object);
  }

  /** An object as it is now, as far as known. */
  get(name: { readonly name: string; readonly namespace?: string }): KubeObject | undefined {
    return this.#resolve(keyOf(name), this.#store.get(name));
  }

  list(): readonly KubeObject[] {
    if (this.#written.size === 0 && this.#deleted.size === 0) return this.#store.list();
    const found: KubeObject[] = [];
    const rest = new Set([...this.#written.keys(), ...this.#deleted.keys()]);
    for (const object of this.#store.list()) {
      const key = keyOf(object.metadata);
      rest.delete(key);
      const resolved = this.#resolve(key, object);
      if (resolved !== undefined) found.push(resolved);
    }
    for (const key of rest) {
      const resolved = this.#resolve(key, undefined);
      if (resolved !== undefined) found.push(resolved);
    }
    return found;
  }

  /** The watch may bring another version of the object after all: forgets what it has caught up with. */
  #resolve(key: string, watched: KubeObject | undefined): KubeObject | undefined {
    const deleted = this.#deleted.get(key);
    if (deleted !== undefined) {
      // One that lingers, with a finalizer of somebody else, shows again: its deletion was one more write.
      if (watched?.metadata.uid === deleted.metadata.uid && isNotOlder(deleted, watched)) return undefined;
      this.#deleted.delete(key);
    }
    const written = this.#written.get(key);
    if (written === undefined) return watched;
    if (watched !== undefined && isNotOlder(watched, written)) {
      this.#written.delete(key);
      return watched;
    }
    return written;
  }

  /** The watch has deleted it: a write from before no longer counts. */
  gone(name: { readonly name: string; readonly namespace?: string }): void {
    this.#written.delete(keyOf(name));
  }
}

/** Versions of one object grow; they are numbers in every API server that keeps its data in etcd. */
function isNotOlder(a: KubeObject, b: KubeObject | undefined): boolean {
  return Number(a.metadata.resourceVersion) >= Number(b?.metadata.resourceVersion);
}
