// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from 'vitest';
import { type ConnTestOptions, testConnections } from '../../../src/cli/conn-test.ts';
import { connTestText } from '../../../src/cli/conn-test-text.ts';
import { ClusterError } from '../../../src/core/cluster-error.ts';
import type { ConnectionTestRow } from '../../../src/core/connection-test.ts';
import type { KubeObject } from '../../../src/core/kube-object.ts';
import {
  DAEMON_SETS,
  IPVS_BPF_NODES,
  PODS,
  POLICIES,
  SERVICE_SLICES,
} from '../../../src/core/resource-types.ts';
import { FakeCluster } from '../../fakes/fake-cluster.ts';
import { FakePods } from '../../fakes/fake-pods.ts';
import { agentDaemonSet, IMAGE, NAMESPACE, readyNode, readyPolicy } from './objects.ts';

const OPTIONS: ConnTestOptions = { output: 'text', timeout: 5_000 };
const never = new AbortController().signal;

function slice(policy: string): KubeObject {
  const virtual = (address: string, protocol: string, port: number) => ({
    addresses: [address],
    ports: [{ port, protocol }],
    snatMode: 'External',
  });
  const services = [
    { namespace: 'a', name: 'web', virtualServers: [virtual('10.96.0.1', 'TCP', 80)], nodePorts: [] },
    { namespace: 'a', name: 'dns', virtualServers: [virtual('10.96.0.2', 'UDP', 53)], nodePorts: [] },
    { namespace: 'b', name: 'api', virtualServers: [virtual('10.96.0.3', 'TCP', 443)], nodePorts: [] },
  ];
  const spec = { policyRef: { name: policy, uid: 'u' }, services };
  return {
    apiVersion: 'ipvs-bpf.io/v1alpha1',
    kind: 'IpvsBpfServiceSlice',
    metadata: { name: `${policy}-0` },
    spec,
  };
}

describe('the connection test', () => {
  let cluster: FakeCluster;
  let pods: FakePods;
  let made: KubeObject[];

  /** What becomes of each pod that is made; unset: nothing. */
  let fate: ((pod: KubeObject) => object) | undefined;

  beforeEach(() => {
    cluster = new FakeCluster();
    pods = new FakePods();
    made = [];
    fate = undefined;
    cluster.put(POLICIES, readyPolicy('shop') as unknown as KubeObject);
    cluster.put(IPVS_BPF_NODES, readyNode('n1', 'shop') as unknown as KubeObject);
    const rejectedServices = [{ namespace: 'b', name: 'api', reason: 'ProbeFailed' }];
    cluster.put(IPVS_BPF_NODES, readyNode('n2', 'shop', { rejectedServices }) as unknown as KubeObject);
    cluster.put(SERVICE_SLICES, slice('shop'));
    cluster.put(DAEMON_SETS, agentDaemonSet());
    const create = cluster.create.bind(cluster);
    cluster.create = async (type, object) => {
      const pod = await create(type, object);
      made.push(pod);
      cluster.put(PODS, { ...pod, status: fate?.(pod) ?? { phase: 'Pending' } });
      return pod;
    };
  });

  const test = (change: Partial<ConnTestOptions> = {}, stop = never) =>
    testConnections({ cluster, pods }, { ...OPTIONS, ...change }, stop);
  const short = (rows: readonly ConnectionTestRow[]) =>
    rows.map(({ node, service, result, accelerated }) => `${node} ${service} ${result} ${accelerated}`);
  const left = () => cluster.select(PODS, {}).map(({ metadata }) => metadata.name);

  function answers(results: Readonly<Record<string, string>>): void {
    fate = ({ metadata }) => {
      const probed = Object.entries(results).map(([target, result]) => ({ target, result, milliseconds: 3 }));
      pods.logs.set(`${metadata.namespace}/${metadata.name}`, `a warning\n${JSON.stringify(probed)}\n`);
      return { phase: 'Succeeded' };
    };
  }

  it('has a row for each node and TCP Service, and leaves no pod behind', async () => {
    answers({ '10.96.0.1:80': 'Answered', '10.96.0.3:443': 'Refused' });
    const rows = await test();
    expect(short(rows)).toEqual([
      'n1 a/web Answered true',
      'n1 b/api Refused true',
      'n2 a/web Answered true',
      'n2 b/api Refused false',
    ]);
    expect(left()).toEqual([]);
    expect(`\n${connTestText(rows)}`).toMatchInlineSnapshot(`
      "
      NODE  SERVICE  ADDRESS        RESULT    MS  ACCELERATED
      n1    a/web    10.96.0.1:80   Answered  3   yes
      n1    b/api    10.96.0.3:443  Refused   3   yes
      n2    a/web    10.96.0.1:80   Answered  3   yes
      n2    b/api    10.96.0.3:443  Refused   3   no

      2 of 4 answered
      "
    `);
  });

  it('makes pods that fit the strictest standard, beside the agents, with their image', async () => {
    answers({});
    await test({ node: ['n1'] });
    expect(made).toHaveLength(1);
    expect(made[0]).toMatchObject({
      metadata: { namespace: NAMESPACE },
      spec: {
        nodeName: 'n1',
        activeDeadlineSeconds: 5,
        automountServiceAccountToken: false,
        imagePullSecrets: [{ name: 'registry' }],
        securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
        containers: [
          {
            image: IMAGE,
            args: ['conn-test-probe', '10.96.0.1:80', '10.96.0.3:443'],
            securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
          },
        ],
      },
    });
  });

  it('connects to IPv6 addresses as they are written with a port', async () => {
    const found = slice('shop');
    const spec = found.spec as { services: { virtualServers: { addresses: string[] }[] }[] };
    spec.services[0]?.virtualServers[0]?.addresses.push('fd00:96::1');
    cluster.put(SERVICE_SLICES, found);
    answers({ '10.96.0.1:80': 'Answered', '[fd00:96::1]:80': 'Answered' });
    const rows = await test({ node: ['n1'], service: ['a/web'] });
    expect(rows.map(({ target, result }) => `${target} ${result}`)).toEqual([
      '10.96.0.1:80 Answered',
      '[fd00:96::1]:80 Answered',
    ]);
  });

  it('takes only the Services and nodes that are named', async () => {
    answers({ '10.96.0.1:80': 'Answered' });
    expect(short(await test({ node: ['n2'], service: ['a/web'] }))).toEqual(['n2 a/web Answered true']);
    await expect(test({ node: ['n9'] })).rejects.toThrow('node n9 has no IpvsBpfNode');
  });

  it('says why a pod did not run, and removes it', async () => {
    fate = () => ({
      phase: 'Pending',
      containerStatuses: [{ state: { waiting: { reason: 'ErrImagePull', message: 'no such image' } } }],
    });
    const rows = await test({ node: ['n1'], timeout: 1_000 });
    expect(rows[0]).toMatchObject({
      result: 'NotTried',
      message: 'The pod did not run in time: ErrImagePull: no such image',
    });
    expect(left()).toEqual([]);
  });

  it('says what the API server says of a pod that it does not take; the other node is tested', async () => {
    answers({ '10.96.0.1:80': 'Answered', '10.96.0.3:443': 'Answered' });
    const create = cluster.create.bind(cluster);
    cluster.create = async (type, object) => {
      if ((object.spec as { nodeName: string }).nodeName === 'n1') {
        throw new ClusterError('create Pod x', {
          status: 403,
          reason: 'Forbidden',
          detail: 'exceeded quota',
        });
      }
      return create(type, object);
    };
    const rows = await test();
    expect(rows[0]).toMatchObject({ node: 'n1', result: 'NotTried' });
    expect(rows[0]?.message).toContain('exceeded quota');
    expect(short(rows).slice(2)).toEqual(['n2 a/web Answered true', 'n2 b/api Answered false']);
  });

  it('removes its pods when it is stopped', async () => {
    const controller = new AbortController();
    const running = test({ timeout: 60_000 }, controller.signal);
    await expect.poll(() => left().length).toBe(2);
    controller.abort();
    await expect(running).rejects.toThrow();
    expect(left()).toEqual([]);
  });

  it('removes what a run left behind that was killed', async () => {
    answers({});
    const labels = { 'app.kubernetes.io/name': 'ipvs-bpf-conn-test' };
    const status = { phase: 'Failed', reason: 'DeadlineExceeded' };
    cluster.put(PODS, { metadata: { name: 'old', namespace: NAMESPACE, labels }, status });
    await test();
    expect(left()).toEqual([]);
  });
});
