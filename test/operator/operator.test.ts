// SPDX-License-Identifier: Apache-2.0
/** The operator's process with the rights that the chart gives it, and agents with theirs. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { KubeObject, ResourceType } from '../../src/core/kube-object.ts';
import {
  CLUSTER_ROLES,
  DAEMON_SETS,
  DEPLOYMENTS,
  IPVS_BPF_NODES,
  LEASES,
  NODES,
  POLICIES,
  SERVICE_ACCOUNTS,
  SERVICE_SLICES,
  SERVICES,
} from '../../src/core/resource-types.ts';
import {
  type Connection,
  connect,
  DEFINITIONS,
  eventually,
  makeAgentPod,
  makeNode,
  NAMESPACE,
  tokenOf,
  waitForDefinitions,
} from './api-server.ts';
import { OperatorProcess } from './operator-process.ts';
import { SimulatedAgents } from './simulated-agents.ts';

const AGENT = { name: 'ipvs-bpf-agent', namespace: NAMESPACE };
const NODE_NAMES = ['operator-n1', 'operator-n2'];
const POLICY = 'operator-test';
const MANAGER = { manager: 'test', onConflict: 'TakeOver' } as const;
const WAIT = { timeout: 40_000, interval: 100 };

interface Conditions {
  readonly conditions?: readonly {
    readonly type: string;
    readonly status: string;
    readonly reason: string;
    readonly message: string;
  }[];
}

function policy(change: object = {}): KubeObject {
  return {
    apiVersion: 'ipvs-bpf.io/v1alpha1',
    kind: 'IpvsBpfPolicy',
    metadata: { name: POLICY },
    spec: {
      mode: 'Enabled',
      nodeSelector: { matchLabels: { role: 'operator-test' } },
      services: { include: [{ namespace: 'default', name: 'operator-web' }] },
      rollout: { soakSeconds: 0, minReadySeconds: 0 },
      ...change,
    },
  };
}

function web(): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'operator-web', namespace: 'default' },
    spec: { selector: { app: 'web' }, ports: [{ port: 80 }] },
  };
}

const BINDINGS: ResourceType = {
  group: 'admissionregistration.k8s.io',
  version: 'v1',
  plural: 'validatingadmissionpolicybindings',
  kind: 'ValidatingAdmissionPolicyBinding',
  namespaced: false,
};

/** Does what the chart keeps people from while it is installed; answers what it keeps them from it with. */
async function withoutGuard({ cluster }: Connection, work: () => Promise<unknown>): Promise<KubeObject> {
  const guard = await cluster.get(BINDINGS, { name: 'ipvs-bpf-crds' });
  if (guard === undefined) throw new Error('the chart guards no definitions');
  await expect(work()).rejects.toThrow(/403 .*uninstall the chart first/);
  await cluster.delete(BINDINGS, { name: guard.metadata.name });
  await eventually(work);
  const { apiVersion, kind, metadata, spec } = guard;
  return { apiVersion, kind, metadata: { name: metadata.name, labels: metadata.labels ?? {} }, spec };
}

/** The environment that the chart gives the operator's container. */
function environmentOf(deployment: KubeObject | undefined): Record<string, string> {
  const spec = deployment?.spec as {
    template: { spec: { containers: { env: { name: string; value?: string }[] }[] } };
  };
  const entries = (spec.template.spec.containers[0]?.env ?? []).flatMap(({ name, value }) =>
    value === undefined ? [] : [[name, value] as const],
  );
  return {
    ...Object.fromEntries(entries),
    IPVS_BPF_NAMESPACE: NAMESPACE,
    IPVS_BPF_POD_NAME: `test-${process.pid}`,
    IPVS_BPF_HTTP_PORT: '0',
    IPVS_BPF_RESYNC_SECONDS: '10',
  };
}

describe('the operator with the rights of the chart', () => {
  const admin = connect();
  const { cluster } = admin;
  const tokens = new Map<string, Connection>();
  const open: Connection[] = [admin];
  let operator: OperatorProcess;
  let agents: SimulatedAgents;
  let environment: Record<string, string>;
  let token: string;

  const found = (type: ResourceType, name: string) => cluster.get(type, { name });
  const reason = async (type: string, kind = POLICIES, name = POLICY): Promise<string> => {
    const { conditions = [] } = ((await found(kind, name))?.status ?? {}) as Conditions;
    const condition = conditions.find((each) => each.type === type);
    return condition === undefined ? '' : `${condition.status} ${condition.reason}`;
  };

  beforeAll(async () => {
    const deployment = await cluster.get(DEPLOYMENTS, { name: 'ipvs-bpf-operator', namespace: NAMESPACE });
    environment = environmentOf(deployment);
    token = await tokenOf(admin, 'ipvs-bpf-operator');
    for (const name of NODE_NAMES) await makeNode(admin, name, { role: 'operator-test' });
    await cluster.apply(SERVICES, web(), MANAGER);
    operator = await OperatorProcess.start({ token, environment });
    await cluster.apply(POLICIES, policy(), MANAGER);
    // The operator makes the agents' account and rights; the pods are ours, because no kubelet runs any.
    await eventually(async () => expect(await cluster.get(SERVICE_ACCOUNTS, { ...AGENT })).toBeDefined());
    for (const node of NODE_NAMES) {
      const pod = await makeAgentPod(admin, node);
      const connection = connect(await tokenOf(admin, AGENT.name, pod));
      tokens.set(node, connection);
      open.push(connection);
    }
    const [first] = tokens.values();
    if (first === undefined) throw new Error('there is no agent');
    // The last of their rights that is made; rights take effect a moment later.
    await eventually(() => first.cluster.get(LEASES, { name: 'node-x', namespace: NAMESPACE }));
    agents = new SimulatedAgents({
      nodes: NODE_NAMES,
      namespace: NAMESPACE,
      reader: first.cluster,
      writerOf: (node) => tokens.get(node)?.cluster ?? cluster,
    });
    await agents.ready();
  });

  afterAll(async () => {
    agents.stop();
    await operator.stop();
    await cluster.delete(SERVICES, { name: 'operator-web', namespace: 'default' });
    for (const name of NODE_NAMES) await cluster.delete(NODES, { name });
    for (const { config } of open) await config.close();
  });

  it('rolls a policy out, and neither it nor an agent is refused anything', async () => {
    await expect.poll(() => reason('Ready'), WAIT).toBe('True AllNodesReady');
    for (const name of NODE_NAMES) {
      expect(await reason('AgentReachable', IPVS_BPF_NODES, name)).toBe('True LeaseFresh');
    }
    expect(await cluster.get(DAEMON_SETS, AGENT)).toBeDefined();
    expect(agents.refused).toEqual([]);
    expect(operator.lines('error')).toEqual([]);
    expect(operator.output).not.toContain('Forbidden');
  });

  it('says which Service of the list is gone, and takes it again when it is there', async () => {
    await cluster.delete(SERVICES, { name: 'operator-web', namespace: 'default' });
    await expect.poll(() => reason('Accepted'), WAIT).toBe('False NoServicesSelected');
    expect((await found(POLICIES, POLICY))?.status).toMatchObject({
      rejectedServices: [{ name: 'operator-web', reason: 'NotFound' }],
    });
    await cluster.apply(SERVICES, web(), MANAGER);
    await expect.poll(() => reason('Ready'), WAIT).toBe('True AllNodesReady');
  });

  it('takes fields back that another manager has written', async () => {
    const [name = ''] = NODE_NAMES;
    const object = await found(IPVS_BPF_NODES, name);
    const spec = { ...(object?.spec as object), mode: 'Disabled' };
    const { apiVersion } = policy();
    const changed = { apiVersion, kind: 'IpvsBpfNode', metadata: { name }, spec };
    await cluster.apply(IPVS_BPF_NODES, changed, MANAGER);
    await expect
      .poll(async () => (await found(IPVS_BPF_NODES, name))?.spec, WAIT)
      .toMatchObject({ mode: 'Enabled' });
  });

  it('refuses an object with an unknown field or a wrong type as a whole', async () => {
    for (const change of [{ modus: 'Enabled' }, { mode: 3 }, { rollout: { maxUnavailable: 'many' } }]) {
      const before = (await found(POLICIES, POLICY))?.metadata.generation;
      await expect(cluster.apply(POLICIES, policy(change), MANAGER)).rejects.toMatchObject({
        name: 'ClusterError',
      });
      expect((await found(POLICIES, POLICY))?.metadata.generation).toBe(before);
    }
  });

  it('tells at the policy what it is forbidden to write, and goes on when it may again', async () => {
    const role = await found(CLUSTER_ROLES, 'ipvs-bpf-operator');
    if (role === undefined) throw new Error('the chart has made no ClusterRole');
    const rules = (role.rules as { resources: string[] }[]).filter(
      ({ resources }) => !resources.includes('ipvsbpfserviceslices'),
    );
    await cluster.replace(CLUSTER_ROLES, { ...role, rules });
    const include = [{ namespace: 'default', name: 'kubernetes' }];
    try {
      await eventually(async () => {
        await cluster.apply(POLICIES, policy({ services: { include } }), MANAGER);
        await sleep(500);
        expect(operator.output).toContain('403 Forbidden');
      });
      expect((await found(POLICIES, POLICY))?.metadata.generation).toBeDefined();
    } finally {
      const changed = await found(CLUSTER_ROLES, 'ipvs-bpf-operator');
      if (changed !== undefined) await cluster.replace(CLUSTER_ROLES, { ...changed, rules: role.rules });
    }
    await expect.poll(() => reason('Ready'), WAIT).toBe('True AllNodesReady');
    const slices = await cluster.list(SERVICE_SLICES);
    expect(JSON.stringify(slices.map(({ spec }) => spec))).toContain('"name":"kubernetes"');
  });

  it('starts again where it was, and changes nothing', async () => {
    expect(await operator.stop()).toBe(0);
    const versions = async () =>
      (await cluster.list(IPVS_BPF_NODES)).map(({ metadata }) => metadata.resourceVersion);
    const before = await versions();
    operator = await OperatorProcess.start({ token, environment });
    await expect.poll(() => operator.output, WAIT).toContain('"leads"');
    await sleep(3_000);
    expect(await versions()).toEqual(before);
    expect(operator.lines('error')).toEqual([]);
  });

  it('lets the policy go after its nodes, and takes the agents away', async () => {
    await cluster.delete(POLICIES, { name: POLICY });
    await expect.poll(() => found(POLICIES, POLICY), WAIT).toBeUndefined();
    expect(await cluster.list(SERVICE_SLICES)).toEqual([]);
    await expect.poll(() => cluster.get(DAEMON_SETS, AGENT), WAIT).toBeUndefined();
    await expect.poll(() => found(CLUSTER_ROLES, AGENT.name), WAIT).toBeUndefined();
    expect(operator.lines('error')).toEqual([]);
  });

  it('waits while its definitions are missing, says so, and works when they are there', async () => {
    const name = 'ipvsbpfserviceslices.ipvs-bpf.io';
    const definition = await found(DEFINITIONS, name);
    if (definition === undefined) throw new Error(`${name} is not installed`);
    await operator.stop();
    const guard = await withoutGuard(admin, () => cluster.delete(DEFINITIONS, { name }));
    await expect.poll(() => found(DEFINITIONS, name), WAIT).toBeUndefined();
    operator = await OperatorProcess.start({ token, environment });
    try {
      await expect.poll(() => operator.output, WAIT).toContain('waits until everything is known');
      const answer = await fetch(`http://127.0.0.1:${operator.port}/readyz`);
      expect(answer.status).toBe(503);
      expect(await answer.text()).toContain('ipvsbpfserviceslices');
    } finally {
      const { uid: _, resourceVersion: _v, creationTimestamp: _c, ...metadata } = definition.metadata;
      await cluster.apply(DEFINITIONS, { ...definition, metadata, status: undefined } as KubeObject, MANAGER);
      await waitForDefinitions(cluster);
      await cluster.apply(BINDINGS, guard, MANAGER);
    }
    await expect
      .poll(async () => (await fetch(`http://127.0.0.1:${operator.port}/readyz`)).status, WAIT)
      .toBe(200);
  });
});
