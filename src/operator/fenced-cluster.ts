// SPDX-License-Identifier: Apache-2.0
/** Writes only while this replica leads. */
import type { Cluster } from '../cluster-ports.ts';
import { ClusterError } from '../core/cluster-error.ts';

/** The same cluster; each write first asks `mayWrite`, also in a process that was asleep meanwhile. */
export function fencedCluster(cluster: Cluster, mayWrite: () => boolean): Cluster {
  const fenced =
    <Arguments extends readonly unknown[], Result>(
      action: string,
      write: (...parameters: Arguments) => Promise<Result>,
    ) =>
    async (...parameters: Arguments): Promise<Result> => {
      if (mayWrite()) return await write(...parameters);
      throw new ClusterError(action, {
        status: 0,
        reason: 'NotLeader',
        detail: 'another replica may lead now',
      });
    };
  return {
    get: (type, name) => cluster.get(type, name),
    list: (type, scope) => cluster.list(type, scope),
    watch: (type, scope, handlers) => cluster.watch(type, scope, handlers),
    apply: fenced('apply', (type, object, options) => cluster.apply(type, object, options)),
    applyStatus: fenced('apply status', (type, object, options) =>
      cluster.applyStatus(type, object, options),
    ),
    create: fenced('create', (type, object) => cluster.create(type, object)),
    replace: fenced('replace', (type, object) => cluster.replace(type, object)),
    setFinalizers: fenced('set finalizers', (type, object, finalizers) =>
      cluster.setFinalizers(type, object, finalizers),
    ),
    delete: fenced('delete', (type, name, uid) => cluster.delete(type, name, uid)),
    record: fenced('record', (happening) => cluster.record(happening)),
  };
}
