// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Cluster } from '../../src/cluster-ports.ts';
import { ClusterError } from '../../src/core/cluster-error.ts';
import type { KubeObject, ObjectName } from '../../src/core/kube-object.ts';
import { CONFIG_MAPS, IPVS_BPF_NODES, POLICIES } from '../../src/core/resource-types.ts';
import { FakeCluster } from '../fakes/fake-cluster.ts';
import { connect, kubeconfigFile, waitForDefinitions } from '../operator/api-server.ts';
import type { Subject } from './subject.ts';

async function realSubject(): Promise<Subject<Cluster>> {
  const { cluster, config } = connect();
  await waitForDefinitions(cluster);
  return { port: cluster, outside: undefined, cleanup: () => config.close() };
}

const fakeSubject = async (): Promise<Subject<Cluster>> => ({
  port: new FakeCluster(),
  outside: undefined,
  cleanup: async () => undefined,
});

const subject =
  kubeconfigFile() === undefined
    ? { name: 'fake', make: fakeSubject }
    : { name: 'API server', make: realSubject };

const RUN = `t${process.pid}`;
const MANAGER = { manager: 'one' };

function map(name: string, data: Readonly<Record<string, string>>): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: `${RUN}-${name}`, namespace: 'default' },
    data,
  };
}

function node(name: string, content: object): KubeObject {
  return {
    apiVersion: 'ipvs-bpf.io/v1alpha1',
    kind: 'IpvsBpfNode',
    metadata: { name: `${RUN}-${name}` },
    ...content,
  };
}

const SPEC = { policyRef: { name: 'p', uid: 'u' }, action: 'Observe', mode: 'Enabled', revision: 'r1' };

function condition(type: string, status = 'True'): object {
  return {
    type,
    status,
    reason: 'Because',
    message: 'So it is.',
    lastTransitionTime: '2026-01-01T00:00:00Z',
  };
}

async function until(holds: () => boolean): Promise<void> {
  for (let tries = 0; !holds(); tries += 1) {
    if (tries > 500) throw new Error('waited in vain');
    await sleep(10);
  }
}

describe.each([subject])('Cluster ($name)', ({ make }) => {
  let cluster: Cluster;
  let cleanup: () => Promise<void>;
  beforeAll(async () => {
    ({ port: cluster, cleanup } = await make());
  }, 60_000);
  afterAll(async () => {
    await cleanup();
  });

  const failure = async (call: Promise<unknown>): Promise<ClusterError> => {
    const error = await call.then(
      () => undefined,
      (caught: unknown) => caught,
    );
    expect(error).toBeInstanceOf(ClusterError);
    return error as ClusterError;
  };

  it('answers undefined for an object that is not there, and false for its deletion', async () => {
    const name: ObjectName = { name: `${RUN}-nobody`, namespace: 'default' };
    expect(await cluster.get(CONFIG_MAPS, name)).toBeUndefined();
    expect(await cluster.delete(CONFIG_MAPS, name)).toBe(false);
  });

  it('creates by apply, takes away what is no longer applied, and leaves what others own', async () => {
    await cluster.apply(CONFIG_MAPS, map('own', { a: '1', b: '2' }), MANAGER);
    await cluster.apply(CONFIG_MAPS, map('own', { c: '3' }), { manager: 'two' });
    const after = await cluster.apply(CONFIG_MAPS, map('own', { a: '1' }), MANAGER);
    expect(after.data).toEqual({ a: '1', c: '3' });
    expect(after).toMatchObject({ apiVersion: 'v1', kind: 'ConfigMap' });
    expect('managedFields' in after.metadata).toBe(false);
  });

  it('refuses a field of another manager, names it, and takes it over when told to', async () => {
    await cluster.apply(CONFIG_MAPS, map('fight', { a: '1' }), MANAGER);
    const error = await failure(cluster.apply(CONFIG_MAPS, map('fight', { a: '2' }), { manager: 'two' }));
    expect(error).toMatchObject({ status: 409, reason: 'Conflict' });
    expect(error.detail).toContain('one');
    const taken = await cluster.apply(CONFIG_MAPS, map('fight', { a: '2' }), {
      manager: 'two',
      onConflict: 'TakeOver',
    });
    expect(taken.data).toEqual({ a: '2' });
  });

  it('changes no version when an apply changes nothing', async () => {
    const first = await cluster.apply(CONFIG_MAPS, map('same', { a: '1' }), MANAGER);
    const second = await cluster.apply(CONFIG_MAPS, map('same', { a: '1' }), MANAGER);
    expect(second.metadata.resourceVersion).toBe(first.metadata.resourceVersion);
  });

  it('refuses to create what is there, and to replace an old version', async () => {
    const first = await cluster.create(CONFIG_MAPS, map('race', { a: '1' }));
    expect(await failure(cluster.create(CONFIG_MAPS, map('race', { a: '1' })))).toMatchObject({
      status: 409,
      reason: 'AlreadyExists',
    });
    await cluster.replace(CONFIG_MAPS, { ...first, data: { a: '2' } });
    const late = await failure(cluster.replace(CONFIG_MAPS, { ...first, data: { a: '3' } }));
    expect(late).toMatchObject({ status: 409, reason: 'Conflict' });
    const name = { name: `${RUN}-race`, namespace: 'default' };
    expect((await cluster.get(CONFIG_MAPS, name))?.data).toEqual({ a: '2' });
  });

  it('deletes only the object with that uid', async () => {
    await cluster.create(CONFIG_MAPS, map('doomed', {}));
    const name = { name: `${RUN}-doomed`, namespace: 'default' };
    expect(await failure(cluster.delete(CONFIG_MAPS, name, 'another'))).toMatchObject({ status: 409 });
    const uid = (await cluster.get(CONFIG_MAPS, name))?.metadata.uid;
    expect(await cluster.delete(CONFIG_MAPS, name, uid)).toBe(true);
    expect(await cluster.get(CONFIG_MAPS, name)).toBeUndefined();
  });

  it('applies a status without a new generation; each manager keeps its own conditions', async () => {
    const made = await cluster.apply(IPVS_BPF_NODES, node('status', { spec: SPEC }), MANAGER);
    const status = (conditions: readonly object[]) => node('status', { status: { conditions } });
    await cluster.applyStatus(IPVS_BPF_NODES, status([condition('Ready')]), { manager: 'agent' });
    const both = await cluster.applyStatus(IPVS_BPF_NODES, status([condition('AgentReachable')]), MANAGER);
    expect(both.metadata.generation).toBe(made.metadata.generation);
    const { conditions } = both.status as { conditions: { type: string }[] };
    expect(conditions.map(({ type }) => type).sort()).toEqual(['AgentReachable', 'Ready']);
    await cluster.delete(IPVS_BPF_NODES, { name: `${RUN}-status` });
  });

  it('answers NotFound for the status of an object that is not there', async () => {
    const call = cluster.applyStatus(IPVS_BPF_NODES, node('none', { status: {} }), MANAGER);
    expect(await failure(call)).toMatchObject({ status: 404, reason: 'NotFound' });
  });

  it('keeps an object with a finalizer until the finalizer is gone, and refuses an old version of it', async () => {
    const type = POLICIES;
    const name = { name: `${RUN}-policy` };
    const policy = { apiVersion: 'ipvs-bpf.io/v1alpha1', kind: 'IpvsBpfPolicy', metadata: name };
    const made = await cluster.create(type, { ...policy, spec: { nodeSelector: {} } });
    const held = await cluster.setFinalizers(type, made, ['ipvs-bpf.io/test']);
    expect(await failure(cluster.setFinalizers(type, made, []))).toMatchObject({ status: 409 });
    await cluster.delete(type, name);
    const doomed = await cluster.get(type, name);
    expect(doomed?.metadata.uid).toBe(held.metadata.uid);
    expect(doomed?.metadata.deletionTimestamp).toBeDefined();
    if (doomed !== undefined) await cluster.setFinalizers(type, doomed, []);
    expect(await cluster.get(type, name)).toBeUndefined();
  });

  it('follows what is there, what comes, changes and goes, within its scope', async () => {
    await cluster.create(CONFIG_MAPS, map('seen-a', { a: '1' }));
    const seen: string[] = [];
    const watched = cluster.watch(
      CONFIG_MAPS,
      { namespace: 'default', fieldSelector: `metadata.name=${RUN}-seen-a` },
      { onChange: ({ name }) => seen.push(name) },
    );
    try {
      await watched.synced;
      expect(watched.hasSynced).toBe(true);
      expect(watched.problem).toBeUndefined();
      expect(watched.list()).toMatchObject([{ apiVersion: 'v1', kind: 'ConfigMap', data: { a: '1' } }]);
      await cluster.create(CONFIG_MAPS, map('seen-b', {}));
      await cluster.apply(CONFIG_MAPS, map('seen-a', { b: '2' }), MANAGER);
      const name = { name: `${RUN}-seen-a`, namespace: 'default' };
      await until(() => JSON.stringify(watched.get(name)?.data) === '{"a":"1","b":"2"}');
      await cluster.delete(CONFIG_MAPS, name);
      await until(() => watched.get(name) === undefined);
      expect(new Set(seen)).toEqual(new Set([`${RUN}-seen-a`]));
    } finally {
      watched.stop();
    }
  });

  it('keeps of what it watches only what is asked for, from the list and from the watch', async () => {
    await cluster.create(CONFIG_MAPS, map('short-a', { a: '1', b: '2' }));
    const watched = cluster.watch(
      CONFIG_MAPS,
      { namespace: 'default', fields: { data: { a: true } } },
      { onChange: () => undefined },
    );
    const kept = (name: string) => watched.get({ name: `${RUN}-${name}`, namespace: 'default' });
    try {
      await watched.synced;
      await cluster.create(CONFIG_MAPS, map('short-b', { a: '3', b: '4' }));
      await until(() => kept('short-b') !== undefined);
      for (const [name, a] of [
        ['short-a', '1'],
        ['short-b', '3'],
      ] as const) {
        const resourceVersion = expect.any(String);
        expect(kept(name)).toEqual({
          apiVersion: 'v1',
          kind: 'ConfigMap',
          metadata: { name: `${RUN}-${name}`, namespace: 'default', resourceVersion },
          data: { a },
        });
      }
    } finally {
      watched.stop();
    }
  });

  it('lists the very same array until something changes', async () => {
    await cluster.create(CONFIG_MAPS, map('list-a', {}));
    const scope = { namespace: 'default', fieldSelector: `metadata.name=${RUN}-list-a` };
    const watched = cluster.watch(CONFIG_MAPS, scope, { onChange: () => undefined });
    try {
      await watched.synced;
      const first = watched.list();
      expect(first).toHaveLength(1);
      expect(watched.list()).toBe(first);
      await cluster.apply(CONFIG_MAPS, map('list-a', { a: '1' }), MANAGER);
      await until(() => JSON.stringify(watched.list()[0]?.data) === '{"a":"1"}');
      const second = watched.list();
      expect(second).not.toBe(first);
      expect(watched.list()).toBe(second);
      await cluster.delete(CONFIG_MAPS, { name: `${RUN}-list-a`, namespace: 'default' });
      await until(() => watched.list().length === 0);
      expect(second).toHaveLength(1);
    } finally {
      watched.stop();
    }
  });

  it('writes an Event about an object', async () => {
    const about = await cluster.apply(CONFIG_MAPS, map('told', {}), MANAGER);
    await cluster.record({ about, type: 'Normal', reason: 'Tested', message: 'It was tested.' });
  });
});
