// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ClusterError } from '../../../src/core/cluster-error.ts';
import type { KubeObject } from '../../../src/core/kube-object.ts';
import { planCluster } from '../../../src/core/policy-plan.ts';
import {
  CLUSTER_ROLES,
  DAEMON_SETS,
  IPVS_BPF_NODES,
  NODES,
  POLICIES,
  SERVICE_SLICES,
  SERVICES,
} from '../../../src/core/resource-types.ts';
import { readOperatorConfig } from '../../../src/operator/config.ts';
import { Engine } from '../../../src/operator/engine.ts';
import { fencedCluster } from '../../../src/operator/fenced-cluster.ts';
import { type OperatorMetrics, operatorMetrics } from '../../../src/operator/metrics.ts';
import { FakeCluster } from '../../fakes/fake-cluster.ts';

const FINALIZER = 'ipvs-bpf.io/revert-nodes';
const NAMESPACE = 'ipvs-bpf';
const AGENT = { name: 'ipvs-bpf-agent', namespace: NAMESPACE };

const forbidden = new ClusterError('apply IpvsBpfNode n1', {
  status: 403,
  reason: 'Forbidden',
  detail: 'ipvsbpfnodes is forbidden',
});

describe('operator', () => {
  let cluster: FakeCluster;
  let engine: Engine | undefined;
  let leads: boolean;
  let metrics: OperatorMetrics;
  const logged: string[] = [];

  beforeEach(() => {
    cluster = new FakeCluster();
    leads = true;
    metrics = operatorMetrics('1.2.3');
    logged.length = 0;
    const metadata = { labels: { role: 'lb' } };
    cluster.put(NODES, { metadata: { name: 'n1', ...metadata }, spec: { podCIDRs: ['10.1.0.0/24'] } });
    cluster.put(SERVICES, {
      metadata: { name: 'web', namespace: 'default' },
      spec: { type: 'ClusterIP', clusterIP: '10.96.0.5', clusterIPs: ['10.96.0.5'], ports: [{ port: 80 }] },
    });
  });
  afterEach(async () => {
    await engine?.stop();
    engine = undefined;
  });

  function start(): void {
    const fenced = fencedCluster(cluster, () => leads);
    const log = (message: string, fields?: object) =>
      void logged.push(`${message} ${JSON.stringify(fields)}`);
    engine = new Engine({
      cluster: fenced,
      policies: cluster.watch(POLICIES, {}, { onChange: () => engine?.wake() }),
      settleFinalizer: async (policy) => {
        const doomed = policy.metadata.deletionTimestamp !== undefined;
        return await fenced.setFinalizers(POLICIES, policy, doomed ? [] : [FINALIZER]);
      },
      plan: planCluster,
      namespace: NAMESPACE,
      agent: readOperatorConfig({ IPVS_BPF_AGENT: '{"image":"i:1","moduleHostPath":"/m"}' }).agent,
      resyncMs: 200,
      metrics,
      log: { debug: log, info: log, warn: log, error: log },
      now: () => performance.now(),
      date: Date.now,
      random: () => 0.5,
    });
  }

  function putPolicy(): void {
    cluster.put(POLICIES, {
      metadata: { name: 'main' },
      spec: {
        mode: 'Enabled',
        nodeSelector: { matchLabels: { role: 'lb' } },
        services: { include: [{ namespace: 'default', name: 'web' }], exclude: [], filtering: 'Respect' },
        snat: { mode: 'External', clusterCIDRs: [] },
        ipvs: {},
        datapath: {
          interfaces: { autoDetect: 'Enabled', include: [], exclude: [] },
          sessionMapMaxEntries: 262144,
          onMapFull: 'Bypass',
        },
        module: { kernelMappings: [], unsupportedKernel: 'Skip' },
        driftPolicy: 'Correct',
        rollout: {
          paused: false,
          maxUnavailable: 1,
          canary: { nodes: 1 },
          soakSeconds: 0,
          minReadySeconds: 0,
          stepTimeoutSeconds: 120,
          nodeTimeoutSeconds: 900,
        },
        failurePolicy: { maxFailedNodes: 0 },
      },
    });
  }

  const found = async (type = IPVS_BPF_NODES, name = 'n1'): Promise<KubeObject | undefined> =>
    await cluster.get(type, { name });
  const wait = { timeout: 8_000, interval: 20 };

  it('makes the objects of a policy, its status and the agents, and then writes nothing more', async () => {
    putPolicy();
    start();
    await expect.poll(async () => (await found())?.spec, wait).toMatchObject({ action: 'Apply' });
    await expect.poll(() => cluster.get(DAEMON_SETS, AGENT), wait).toBeDefined();
    const policy = await found(POLICIES, 'main');
    expect(policy?.metadata.finalizers).toEqual([FINALIZER]);
    expect(cluster.select(SERVICE_SLICES, {})).toHaveLength(1);
    await expect.poll(async () => (await found(POLICIES, 'main'))?.status, wait).toBeDefined();
    await new Promise((resolve) => setTimeout(resolve, 500));
    const { length } = cluster.writes;
    await new Promise((resolve) => setTimeout(resolve, 800));
    expect(cluster.writes.slice(length)).toEqual([]);
  });

  it('counts runs that failed from 0 on, so that the first one is an increase', async () => {
    start();
    const text = await metrics.text();
    for (const key of ['cluster', 'agents', 'modules']) {
      expect(text).toContain(`ipvsbpf_reconcile_total{key="${key}",outcome="failed"} 0`);
    }
  });

  it('says when all was last as it should be, and not when something cannot be written', async () => {
    const lastSuccess = async (): Promise<number> => {
      const text = await metrics.text();
      return Number(/last_success_timestamp_seconds\{key="cluster"\} (\S+)/.exec(text)?.[1]);
    };
    cluster.refuse = (method, type) =>
      method === 'apply' && type.kind === 'IpvsBpfNode' ? forbidden : undefined;
    putPolicy();
    start();
    await expect.poll(() => cluster.events.length, wait).toBeGreaterThan(0);
    const before = await lastSuccess();
    // It looks again and again meanwhile, also while the object waits for its next try.
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect(await lastSuccess()).toBe(before);
    cluster.refuse = () => undefined;
    await expect.poll(lastSuccess, wait).toBeGreaterThan(before);
  });

  it('puts right what somebody else changed or removed', async () => {
    putPolicy();
    start();
    await expect.poll(() => cluster.get(DAEMON_SETS, AGENT), wait).toBeDefined();
    await expect.poll(() => found(), wait).toBeDefined();
    await cluster.delete(DAEMON_SETS, AGENT);
    await cluster.delete(IPVS_BPF_NODES, { name: 'n1' });
    cluster.put(CLUSTER_ROLES, { metadata: { name: AGENT.name }, rules: [] });
    await expect.poll(() => cluster.get(DAEMON_SETS, AGENT), wait).toBeDefined();
    await expect.poll(() => found(), wait).toBeDefined();
    await expect.poll(async () => (await found(CLUSTER_ROLES, AGENT.name))?.rules, wait).toHaveLength(4);
  });

  it('tells at the policy what it may not write, tries again, and goes on with the rest', async () => {
    cluster.refuse = (method, type) =>
      method === 'apply' && type.kind === 'IpvsBpfNode' ? forbidden : undefined;
    putPolicy();
    start();
    const told = () => cluster.events.map(({ reason, message }) => `${reason}: ${message}`);
    await expect.poll(told, wait).toContain(`ApplyFailed: ${forbidden.message}`);
    expect(cluster.select(SERVICE_SLICES, {})).toHaveLength(1);
    expect(told().filter((text) => text.startsWith('ApplyFailed'))).toHaveLength(1);
    cluster.refuse = () => undefined;
    await expect.poll(() => found(), wait).toBeDefined();
  });

  it('tries again after a conflict without a word', async () => {
    let left = 2;
    cluster.refuse = (method, type) => {
      if (method !== 'apply' || type.kind !== 'IpvsBpfNode' || left === 0) return undefined;
      left -= 1;
      return new ClusterError('x', { status: 409, reason: 'Conflict', detail: 'modified' });
    };
    putPolicy();
    start();
    await expect.poll(() => found(), wait).toBeDefined();
    expect(cluster.events.filter(({ reason }) => reason === 'ApplyFailed')).toEqual([]);
  });

  it('plans nothing while it does not know everything, and says what it cannot read', async () => {
    cluster.refuse = (method, type) => (method === 'list' && type.kind === 'Service' ? forbidden : undefined);
    putPolicy();
    start();
    await expect.poll(() => cluster.events.map(({ reason }) => reason), wait).toContain('ObservationFailed');
    expect(cluster.select(IPVS_BPF_NODES, {})).toEqual([]);
    cluster.refuse = () => undefined;
    await expect.poll(() => found(), wait).toBeDefined();
  });

  it('waits for the definitions of its own kinds', async () => {
    cluster.refuse = (method, type) =>
      method === 'list' && type.kind === 'IpvsBpfNode'
        ? new ClusterError('list ipvsbpfnodes', { status: 404, reason: 'NotFound', detail: 'no such kind' })
        : undefined;
    start();
    await expect.poll(() => engine?.stores.problems().get('ipvsbpfnodes'), wait).toContain('404 NotFound');
    cluster.refuse = () => undefined;
    await expect.poll(() => engine?.stores.hasSynced, wait).toBe(true);
  });

  it('lets a deleted policy go after its nodes, and takes the agents away', async () => {
    putPolicy();
    start();
    await expect.poll(() => cluster.get(DAEMON_SETS, AGENT), wait).toBeDefined();
    await expect.poll(() => found(), wait).toBeDefined();
    await cluster.delete(POLICIES, { name: 'main' });
    await expect.poll(() => found(POLICIES, 'main'), wait).toBeUndefined();
    expect(cluster.select(IPVS_BPF_NODES, {})).toEqual([]);
    expect(cluster.select(SERVICE_SLICES, {})).toEqual([]);
    await expect.poll(() => cluster.get(DAEMON_SETS, AGENT), wait).toBeUndefined();
  });

  it('writes nothing when it no longer leads', async () => {
    leads = false;
    putPolicy();
    start();
    await new Promise((resolve) => setTimeout(resolve, 600));
    expect(cluster.writes).toEqual([]);
  });
});

describe('readOperatorConfig', () => {
  it('names all problems at once, and what is accepted', () => {
    const bad = {
      IPVS_BPF_HTTP_PORT: 'x',
      IPVS_BPF_LOG_LEVEL: 'loud',
      IPVS_BPF_AGENT: '{',
      IPVS_BPF_TYPO: '1',
    };
    expect(() => readOperatorConfig(bad)).toThrow(
      /HTTP_PORT must be a whole number[\s\S]*LOG_LEVEL must be one of[\s\S]*AGENT must be JSON[\s\S]*TYPO is not known/,
    );
  });
});
