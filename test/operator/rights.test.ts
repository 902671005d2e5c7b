// SPDX-License-Identifier: Apache-2.0
/** What operator and agents may do with the chart's rights, asked of a real API server with real tokens. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KubernetesClient } from '../../src/adapters/kubernetes-client.ts';
import { ClusterError } from '../../src/core/cluster-error.ts';
import type { KubeObject } from '../../src/core/kube-object.ts';
import { type AgentConfig, agentManifests } from '../../src/core/manifests.ts';
import { IPVS_BPF_NODES, LEASES, NODES } from '../../src/core/resource-types.ts';
import { reconcileAgents } from '../../src/operator/agents.ts';
import {
  type Connection,
  connect,
  eventually,
  makeAgentPod,
  makeNode,
  NAMESPACE,
  tokenOf,
} from './api-server.ts';

const AGENT: AgentConfig = {
  namespace: NAMESPACE,
  image: 'localhost/none',
  imagePullPolicy: 'Never',
  imagePullSecrets: [],
  moduleHostPath: '/srv',
  logLevel: 'info',
  logFormat: 'json',
  priorityClassName: '',
  resources: {},
  nodeSelector: {},
  tolerations: [],
};
const MANAGER = { manager: 'ipvs-bpf-agent', onConflict: 'TakeOver' } as const;
const OWN = 'rights-n1';
const OTHER = 'rights-n2';

const log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };

function nodeStatus(name: string): KubeObject {
  return {
    apiVersion: 'ipvs-bpf.io/v1alpha1',
    kind: 'IpvsBpfNode',
    metadata: { name },
    status: { observedGeneration: 1 },
  };
}

function lease(name: string): KubeObject {
  const metadata = { name, namespace: NAMESPACE };
  return { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata, spec: { holderIdentity: name } };
}

/** "list secrets", "get pods/log in default", "patch clusterroles/x" */
type Question = string;

async function may(connection: Connection, question: Question): Promise<boolean> {
  const [, verb = '', target = '', namespace = ''] = /^(\S+) (\S+)(?: in (\S+))?$/.exec(question) ?? [];
  const [full = '', name = ''] = target.split('#');
  const [typed = '', subresource = ''] = full.split('/');
  const [resource = '', ...group] = typed.split('.');
  const attributes = { verb, resource, subresource, name, namespace, group: group.join('.') };
  const answer = (await new KubernetesClient(connection.config).request(
    'POST',
    '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews',
    {
      action: 'ask for rights',
      body: {
        apiVersion: 'authorization.k8s.io/v1',
        kind: 'SelfSubjectAccessReview',
        spec: { resourceAttributes: attributes },
      },
    },
  )) as { readonly status: { readonly allowed: boolean } };
  return answer.status.allowed;
}

async function refusal(call: Promise<unknown>): Promise<ClusterError> {
  const error = await call.then(
    () => new Error('it was allowed'),
    (caught: unknown) => caught,
  );
  expect(error).toBeInstanceOf(ClusterError);
  return error as ClusterError;
}

describe('rights', () => {
  const admin = connect();
  const open: Connection[] = [admin];
  let operator: Connection;
  let agent: Connection;
  const as = (token: string): Connection => {
    const connection = connect(token);
    open.push(connection);
    return connection;
  };

  beforeAll(async () => {
    operator = as(await tokenOf(admin, 'ipvs-bpf-operator'));
    // With the operator's own rights: that it may give agents theirs is tested by the way.
    await reconcileAgents({ cluster: operator.cluster, config: AGENT, log, wanted: () => true });
    for (const name of [OWN, OTHER]) {
      await makeNode(admin, name);
      const spec = { policyRef: { name: 'p', uid: 'u' }, action: 'Observe', mode: 'Enabled', revision: 'r' };
      const { status: _, ...object } = nodeStatus(name);
      await admin.cluster.apply(IPVS_BPF_NODES, { ...object, spec }, { manager: 'test' });
    }
    agent = as(await tokenOf(admin, 'ipvs-bpf-agent', await makeAgentPod(admin, OWN)));
    // Rights and admission policies take effect a moment after they were written.
    await eventually(() => agent.cluster.list(IPVS_BPF_NODES));
    await eventually(async () => {
      const write = agent.cluster.applyStatus(IPVS_BPF_NODES, nodeStatus(OTHER), MANAGER);
      expect(await write.catch((error: unknown) => error)).toBeInstanceOf(ClusterError);
    });
  });

  afterAll(async () => {
    await reconcileAgents({ cluster: operator.cluster, config: AGENT, log, wanted: () => false });
    for (const { type, object } of agentManifests(AGENT)) {
      expect(await admin.cluster.get(type, object.metadata)).toBeUndefined();
    }
    for (const name of [OWN, OTHER]) {
      await admin.cluster.delete(IPVS_BPF_NODES, { name });
      await admin.cluster.delete(NODES, { name });
    }
    for (const { config } of open) await config.close();
  });

  describe('of the operator', () => {
    it.each([
      'list secrets',
      `get secrets in ${NAMESPACE}`,
      'list configmaps',
      'list pods',
      'create pods in kube-system',
      'delete pods in kube-system',
      `patch pods in ${NAMESPACE}`,
      `create pods/exec in ${NAMESPACE}`,
      'patch nodes',
      'delete nodes',
      'patch nodes/status',
      'patch services',
      'create namespaces',
      'create ipvsbpfpolicies.ipvs-bpf.io',
      'delete ipvsbpfpolicies.ipvs-bpf.io',
      'patch customresourcedefinitions.apiextensions.k8s.io',
      'patch clusterroles.rbac.authorization.k8s.io#ipvs-bpf-operator',
      'patch clusterroles.rbac.authorization.k8s.io#cluster-admin',
      'escalate clusterroles.rbac.authorization.k8s.io#ipvs-bpf-agent',
      'bind clusterroles.rbac.authorization.k8s.io#cluster-admin',
      'impersonate serviceaccounts',
      `create serviceaccounts/token in ${NAMESPACE}`,
      `patch daemonsets.apps#kube-proxy in kube-system`,
      `patch daemonsets.apps#another in ${NAMESPACE}`,
      `patch deployments.apps#ipvs-bpf-operator in ${NAMESPACE}`,
      'patch leases.coordination.k8s.io in kube-node-lease',
      'delete validatingadmissionpolicies.admissionregistration.k8s.io',
    ])('are not: %s', async (question) => {
      expect(await may(operator, question)).toBe(false);
      expect(await may(admin, question)).toBe(true);
    });

    it('let it give agents no more than it has', async () => {
      const role = agentManifests(AGENT).find(({ object }) => object.kind === 'ClusterRole');
      expect(role).toBeDefined();
      if (role === undefined) return;
      const rules = [{ apiGroups: [''], resources: ['secrets'], verbs: ['get'] }];
      const grab = operator.cluster.apply(role.type, { ...role.object, rules }, MANAGER);
      expect(await refusal(grab)).toMatchObject({ status: 403 });
    });
  });

  describe('of an agent', () => {
    it.each([
      'list secrets',
      `get secrets in ${NAMESPACE}`,
      `list configmaps in ${NAMESPACE}`,
      'list pods',
      `list pods in ${NAMESPACE}`,
      'list nodes',
      'patch nodes',
      'patch nodes/status',
      'list services',
      'list ipvsbpfpolicies.ipvs-bpf.io',
      'patch ipvsbpfpolicies.ipvs-bpf.io/status',
      'patch ipvsbpfnodes.ipvs-bpf.io',
      'create ipvsbpfnodes.ipvs-bpf.io',
      'delete ipvsbpfnodes.ipvs-bpf.io',
      'patch ipvsbpfserviceslices.ipvs-bpf.io',
      `delete leases.coordination.k8s.io in ${NAMESPACE}`,
      `list leases.coordination.k8s.io in ${NAMESPACE}`,
      'patch leases.coordination.k8s.io in kube-node-lease',
      'list events',
      'patch daemonsets.apps in kube-system',
      'list clusterroles.rbac.authorization.k8s.io',
    ])('are not: %s', async (question) => {
      expect(await may(agent, question)).toBe(false);
      expect(await may(admin, question)).toBe(true);
    });

    it('are what it needs for its own node', async () => {
      const { cluster } = agent;
      expect((await cluster.get(NODES, { name: OWN }))?.metadata.name).toBe(OWN);
      const written = await cluster.applyStatus(IPVS_BPF_NODES, nodeStatus(OWN), MANAGER);
      expect(written.status).toMatchObject({ observedGeneration: 1 });
      await cluster.apply(LEASES, lease(`node-${OWN}`), MANAGER);
      await cluster.apply(LEASES, lease(`node-${OWN}`), MANAGER);
      await cluster.record({ about: written, type: 'Normal', reason: 'Tested', message: 'It was tested.' });
    });

    it.each<[string, (one: Connection) => Promise<unknown>]>([
      [
        'the status of another node',
        ({ cluster }) => cluster.applyStatus(IPVS_BPF_NODES, nodeStatus(OTHER), MANAGER),
      ],
      ['the Lease of another node', ({ cluster }) => cluster.apply(LEASES, lease(`node-${OTHER}`), MANAGER)],
      ["the operator's Lease", ({ cluster }) => cluster.apply(LEASES, lease('ipvs-bpf-operator'), MANAGER)],
      ['a Lease with only the name of its node', ({ cluster }) => cluster.apply(LEASES, lease(OWN), MANAGER)],
      [
        'an Event about another node',
        ({ cluster }) =>
          cluster.record({ about: nodeStatus(OTHER), type: 'Normal', reason: 'Tested', message: 'No.' }),
      ],
    ])('are not to write %s', async (_, write) => {
      expect(await refusal(write(agent))).toMatchObject({ status: 403 });
    });

    it('are none to write with a token that names no node', async () => {
      const stray = as(await tokenOf(admin, 'ipvs-bpf-agent'));
      expect(await stray.cluster.list(IPVS_BPF_NODES)).not.toEqual([]);
      const error = await refusal(stray.cluster.applyStatus(IPVS_BPF_NODES, nodeStatus(OWN), MANAGER));
      expect(error).toMatchObject({ status: 403 });
      expect(error.detail).toContain('names no node');
    });
  });
});
