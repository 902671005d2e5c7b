// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { writeArchive } from '../../../src/adapters/archive.ts';
import { NODE_FACTS } from '../../../src/cli/sysdump-node-facts.ts';
import { type SysdumpPart, sysdumpParts } from '../../../src/cli/sysdump-parts.ts';
import { ClusterError } from '../../../src/core/cluster-error.ts';
import type { KubeObject } from '../../../src/core/kube-object.ts';
import { redactObject, redactText } from '../../../src/core/redact.ts';
import {
  DAEMON_SETS,
  DEPLOYMENTS,
  IPVS_BPF_NODES,
  PODS,
  POLICIES,
  SERVICE_SLICES,
} from '../../../src/core/resource-types.ts';
import { FakeCluster } from '../../fakes/fake-cluster.ts';
import { FakePods } from '../../fakes/fake-pods.ts';
import {
  agentDaemonSet,
  agentPod,
  NAMESPACE,
  operatorDeployment,
  readyNode,
  readyPolicy,
} from './objects.ts';

/** Each of these must not be in what is given away. */
const JWT = 'eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiJzeXN0ZW06c2EifQ.c2lnbmF0dXJl';
const PLANTED = [
  'hunter2',
  'c0rrecthorse',
  JWT,
  'ghp_0123456789abcdefghij0123',
  'MIIEowIBAAKCAQEA',
  'AKIAIOSFODNN7EXAMPLE',
];

describe('what is given away', () => {
  it.each([
    ['a variable with a telling name', { env: [{ name: 'DB_PASSWORD', value: 'hunter2' }] }],
    [
      'a field with a telling name',
      { spec: { apiKey: 'hunter2', nested: [{ clientSecret: 'c0rrecthorse' }] } },
    ],
    ['a token in a value of another name', { env: [{ name: 'STARTUP', value: `run --with ${JWT}` }] }],
    ['a token of a service', { args: ['--auth=ghp_0123456789abcdefghij0123'] }],
    [
      'the last applied configuration',
      {
        metadata: { annotations: { 'kubectl.kubernetes.io/last-applied-configuration': '{"x":"hunter2"}' } },
      },
    ],
    ['managed fields', { metadata: { managedFields: [{ manager: 'hunter2' }] } }],
    ['a key of a cloud', { data: { id: 'AKIAIOSFODNN7EXAMPLE' } }],
  ])('has not %s', (_, object) => {
    const text = JSON.stringify(redactObject(object));
    for (const secret of PLANTED) expect(text).not.toContain(secret);
  });

  it.each([
    `Authorization: Bearer ${JWT}`,
    'connecting to https://admin:hunter2@db.example/x',
    'password=hunter2 user=x',
    '{"level":"info","token":"hunter2"}',
    "api_key: 'hunter2'",
    '-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\n-----END RSA PRIVATE KEY-----',
    '-----BEGIN PRIVATE KEY-----\nMIIEowIBAAKCAQEA (cut off)',
  ])('has no secret of the line %j', (line) => {
    const text = redactText(line);
    for (const secret of PLANTED) expect(text).not.toContain(secret);
  });

  it('has everything else', () => {
    const object = {
      metadata: { name: 'x', labels: { 'ipvs-bpf.io/policy': 'shop' }, uid: '1-2' },
      spec: {
        serviceAccountName: 'ipvs-bpf-agent',
        automountServiceAccountToken: true,
        imagePullSecrets: [{ name: 'registry' }],
        env: [{ name: 'IPVS_BPF_LOG_LEVEL', value: 'info' }],
        ports: [80],
      },
    };
    expect(redactObject(object)).toEqual(object);
    const log = '{"level":"info","message":"started","node":"n1","step":"insertModule /srv/ip_vs.ko"}';
    expect(redactText(log)).toBe(log);
  });
});

describe('a sysdump', () => {
  let cluster: FakeCluster;
  let pods: FakePods;
  const put = (type: Parameters<FakeCluster['put']>[0], object: unknown) =>
    cluster.put(type, object as KubeObject);

  beforeEach(() => {
    cluster = new FakeCluster();
    pods = new FakePods();
    const annotations = { 'kubectl.kubernetes.io/last-applied-configuration': 'hunter2' };
    const policy = readyPolicy('shop');
    put(POLICIES, { ...policy, metadata: { ...policy.metadata, annotations } });
    put(IPVS_BPF_NODES, readyNode('n1', 'shop'));
    put(IPVS_BPF_NODES, readyNode('n2', 'shop', { conditions: [] }));
    put(SERVICE_SLICES, {
      metadata: { name: 'shop-0' },
      spec: { policyRef: { name: 'shop' }, services: [] },
    });
    put(DEPLOYMENTS, operatorDeployment());
    put(DAEMON_SETS, agentDaemonSet());
    for (const node of ['n1', 'n2']) {
      put(PODS, agentPod(node));
      pods.logs.set(`${NAMESPACE}/agent-${node}`, `started on ${node}\npassword=hunter2\n`);
    }
    const labels = { 'app.kubernetes.io/name': 'ipvs-bpf', 'app.kubernetes.io/component': 'operator' };
    const env = [{ name: 'API_TOKEN', value: 'c0rrecthorse' }];
    put(PODS, { metadata: { name: 'op', namespace: NAMESPACE, labels }, spec: { containers: [{ env }] } });
    put(PODS, { metadata: { name: 'stranger', namespace: NAMESPACE } });
    pods.logs.set(`${NAMESPACE}/op`, `Bearer ${JWT}\n`);
    pods.logs.set(`previous ${NAMESPACE}/op`, 'it ended\n');
    pods.run = (_, { command, onOutput }) => {
      onOutput(`${command.at(-1)} secret: hunter2\n`);
      return { status: 0, stderr: '' };
    };
  });

  async function parts(change: { node?: readonly string[] } = {}): Promise<Map<string, SysdumpPart>> {
    const scope = { logLines: 10, stop: new AbortController().signal, ...change };
    const found = new Map<string, SysdumpPart>();
    for await (const part of sysdumpParts({ cluster, pods }, scope)) found.set(part.path, part);
    return found;
  }
  const textOf = (part: SysdumpPart | undefined) => (part !== undefined && 'text' in part ? part.text : '');

  it('has objects, logs and facts of nodes, and none of the secrets', async () => {
    const found = await parts();
    expect([...found.values()].filter((part) => 'error' in part)).toEqual([]);
    expect([...found.keys()]).toEqual(
      expect.arrayContaining([
        'status.txt',
        'preflight.txt',
        'cluster/ipvsbpfpolicies.json',
        'cluster/ipvsbpfnodes.json',
        'cluster/ipvsbpfserviceslices.json',
        'cluster/nodes.json',
        'ipvs-bpf/deployments.json',
        'ipvs-bpf/daemonsets.json',
        'ipvs-bpf/pods.json',
        'ipvs-bpf/events.json',
        'ipvs-bpf/logs/op.log',
        'ipvs-bpf/logs/op.previous.log',
        'ipvs-bpf/logs/agent-n1.log',
        ...NODE_FACTS.map(({ name }) => `nodes/n2/${name}`),
      ]),
    );
    const all = [...found.values()].map(textOf).join('\n');
    for (const secret of PLANTED) expect(all).not.toContain(secret);
    expect(textOf(found.get('ipvs-bpf/logs/agent-n1.log'))).toContain('started on n1');
    expect(textOf(found.get('ipvs-bpf/pods.json'))).not.toContain('stranger');
  });

  it('never asks for Secrets or ConfigMaps', async () => {
    const asked: string[] = [];
    cluster.refuse = (_, type) => {
      asked.push(type.kind);
      return undefined;
    };
    await parts();
    expect(asked).toContain('IpvsBpfPolicy');
    expect(asked.filter((kind) => /Secret|ConfigMap/.test(kind))).toEqual([]);
  });

  it('is of the nodes that are named', async () => {
    const found = await parts({ node: ['n2'] });
    expect([...found.keys()].filter((path) => path.startsWith('nodes/n1/'))).toEqual([]);
    expect(found.has('nodes/n2/ip_vs.txt')).toBe(true);
  });

  it('begins with the nodes that are not ready', async () => {
    const [first = ''] = [...(await parts()).keys()].filter((path) => path.startsWith('nodes/'));
    expect(first.startsWith('nodes/n2/')).toBe(true);
  });

  it('asks a node that cannot be reached only once', async () => {
    const away = new ClusterError('run', { status: 500, reason: 'HTTP500', detail: 'no route' });
    pods.run = ({ name }) => {
      if (name === 'agent-n2') throw away;
      return { status: 0, stderr: '' };
    };
    const found = await parts();
    expect(found.get('nodes/n2/top.json')).toEqual({ path: 'nodes/n2/top.json', error: away });
    expect([...found.keys()].filter((path) => path.startsWith('nodes/n2/'))).toHaveLength(1);
    expect(found.has('nodes/n1/ip_vs.txt')).toBe(true);
  });

  it('says of each part that cannot be read why, and has the others', async () => {
    const forbidden = new ClusterError('list leases', { status: 403, reason: 'Forbidden', detail: 'no' });
    cluster.refuse = (_, type) => (type.kind === 'Lease' ? forbidden : undefined);
    pods.run = (_, { command }) => ({ status: 1, stderr: `no ${command[0]}` });
    const found = await parts();
    expect(found.get('ipvs-bpf/leases.json')).toEqual({ path: 'ipvs-bpf/leases.json', error: forbidden });
    expect(found.get('nodes/n1/routes.txt')).toMatchObject({
      error: expect.objectContaining({ name: 'Error' }),
    });
    expect(textOf(found.get('cluster/ipvsbpfpolicies.json'))).toContain('shop');
  });
});

describe('an archive', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'ipvs-bpf-archive-'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));
  const date = new Date('2026-01-02T03:04:05Z');

  it('is one that tar reads, for its owner alone', async () => {
    const file = join(directory, 'x.tar.gz');
    const long = `${'directory/'.repeat(15)}file.txt`;
    const big = 'ä'.repeat(3_000_000);
    async function* parts() {
      yield { path: 'a.txt', text: 'straße\n' };
      yield { path: long, text: 'long\n' };
      yield { path: 'big.txt', text: big };
    }
    await writeArchive(file, parts(), { root: 'x', date });
    expect(statSync(file).mode & 0o777).toBe(0o600);
    execFileSync('tar', ['-xzf', file, '-C', directory]);
    expect(readFileSync(join(directory, 'x/a.txt'), 'utf8')).toBe('straße\n');
    expect(readFileSync(join(directory, 'x', long), 'utf8')).toBe('long\n');
    expect(readFileSync(join(directory, 'x/big.txt'), 'utf8')).toBe(big);
    expect(statSync(join(directory, 'x/a.txt')).mtime).toEqual(date);
  });

  it('is not there if its parts end with an error', async () => {
    const file = join(directory, 'x.tar.gz');
    async function* parts() {
      yield { path: 'a.txt', text: 'a' };
      throw new Error('no answer');
    }
    await expect(writeArchive(file, parts(), { root: 'x', date })).rejects.toThrow('no answer');
    expect(existsSync(file) || existsSync(`${file}.part`)).toBe(false);
  });

  it('says where it cannot be written', async () => {
    async function* parts() {
      yield { path: 'a.txt', text: 'a' };
    }
    const file = join(directory, 'none/x.tar.gz');
    await expect(writeArchive(file, parts(), { root: 'x', date })).rejects.toThrow('ENOENT');
  });
});
