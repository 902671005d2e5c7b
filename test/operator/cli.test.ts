// SPDX-License-Identifier: Apache-2.0
/** The command line on a real API server: what it reads, what it makes, and what it says without rights. */
import { execFile, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { KubeObject } from '../../src/core/kube-object.ts';
import {
  DAEMON_SETS,
  DEPLOYMENTS,
  IPVS_BPF_NODES,
  NAMESPACES,
  NODES,
  PODS,
  POLICIES,
  SERVICE_SLICES,
} from '../../src/core/resource-types.ts';
import { connect, eventually, kubeconfigFile, makeNode, tokenOf } from './api-server.ts';

const CLI = join(import.meta.dirname, '../../src/cli.ts');
const MANAGER = { manager: 'test', onConflict: 'TakeOver' } as const;
const NAMESPACE = 'cli-test';
const POLICY = 'cli-shop';
const NODE = 'cli-n1';
const SECRET = 'hunter2';
/** A process of ours starts in a second; on a machine that does much else it takes longer. */
const PATIENT = { timeout: 50_000 };
const labelsOf = (component: string) => ({
  'app.kubernetes.io/name': 'ipvs-bpf',
  'app.kubernetes.io/component': component,
});

interface Ended {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

function end(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(command, args, { env: { PATH: process.env.PATH, ...env } }, (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

const run = (args: readonly string[], kubeconfig = kubeconfigFile()): Promise<Ended> =>
  end(process.execPath, [CLI, ...args], { KUBECONFIG: kubeconfig });

function workload(
  kind: 'Deployment' | 'DaemonSet',
  component: string,
  spec: object,
  podSpec: object,
): KubeObject {
  const labels = { ...labelsOf(component), app: `cli-${component}` };
  const env = [{ name: 'API_TOKEN', value: SECRET }];
  return {
    apiVersion: 'apps/v1',
    kind,
    metadata: { name: `cli-${component}`, namespace: NAMESPACE, labels },
    spec: {
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
          containers: [
            {
              name: component,
              image: 'localhost/none',
              env,
              securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
            },
          ],
          ...podSpec,
        },
      },
      ...spec,
    },
  };
}

const time = () => `${new Date().toISOString().slice(0, 19)}Z`;

describe('the command line', { timeout: 120_000 }, () => {
  const admin = connect();
  const { cluster } = admin;
  const directory = mkdtempSync(join(tmpdir(), 'ipvs-bpf-cli-'));

  /** What the operator would say. */
  async function say(status: 'True' | 'False', reason: string, message: string): Promise<void> {
    const generation = (await cluster.get(POLICIES, { name: POLICY }))?.metadata.generation;
    await cluster.applyStatus(
      POLICIES,
      {
        apiVersion: 'ipvs-bpf.io/v1alpha1',
        kind: 'IpvsBpfPolicy',
        metadata: { name: POLICY },
        status: {
          observedGeneration: generation,
          nodes: { selected: 1, ready: status === 'True' ? 1 : 0 },
          conditions: [
            {
              type: 'Ready',
              status,
              reason,
              message,
              observedGeneration: generation,
              lastTransitionTime: time(),
            },
          ],
        },
      },
      MANAGER,
    );
  }

  async function makePolicy(): Promise<void> {
    const object = { apiVersion: 'ipvs-bpf.io/v1alpha1', kind: 'IpvsBpfPolicy', metadata: { name: POLICY } };
    const spec = {
      nodeSelector: { matchLabels: { role: 'cli-test' } },
      services: { include: [{ namespace: 'default', name: 'cli-web' }] },
      module: {
        kernelMappings: [{ regexp: '6\\.1\\..*', path: '/srv/ip_vs.ko' }],
        unsupportedKernel: 'Fail',
      },
    };
    await cluster.apply(POLICIES, { ...object, spec }, MANAGER);
    await say('True', 'DryRunPassed', 'All checks passed.');
  }

  async function makeNodeObject(): Promise<void> {
    const object = { apiVersion: 'ipvs-bpf.io/v1alpha1', kind: 'IpvsBpfNode', metadata: { name: NODE } };
    const policyRef = { name: POLICY, uid: 'u' };
    const spec = { policyRef, action: 'Observe', mode: 'Enabled', revision: 'r' };
    const { metadata } = await cluster.apply(IPVS_BPF_NODES, { ...object, spec }, MANAGER);
    const passed = { type: 'PreflightPassed', status: 'True', reason: 'AllChecksPassed', message: '' };
    const status = {
      observedGeneration: metadata.generation,
      kernelRelease: '6.1.0-56-amd64',
      kubeProxy: { mode: 'ipvs', version: 'v1.34.4' },
      preflight: [{ check: 'ForeignPrograms', result: 'Warn', message: 'others are attached' }],
      conditions: [{ ...passed, lastTransitionTime: time() }],
    };
    await cluster.applyStatus(IPVS_BPF_NODES, { ...object, status }, MANAGER);
    const virtualServers = [
      { addresses: ['10.96.7.7'], ports: [{ port: 80, protocol: 'TCP' }], snatMode: 'Never' },
    ];
    const services = [{ namespace: 'default', name: 'cli-web', virtualServers, nodePorts: [] }];
    const slice = {
      apiVersion: 'ipvs-bpf.io/v1alpha1',
      kind: 'IpvsBpfServiceSlice',
      metadata: { name: 'cli-0' },
    };
    await cluster.apply(SERVICE_SLICES, { ...slice, spec: { policyRef, services } }, MANAGER);
  }

  /** There is no kubelet: what it would say of the operator's pod is said here. */
  async function operatorRuns(): Promise<void> {
    const labelSelector = 'app.kubernetes.io/component=operator';
    await eventually(async () => {
      const pods = await cluster.list(PODS, { namespace: NAMESPACE, labelSelector });
      expect(pods).toHaveLength(1);
      for (const { metadata } of pods) {
        const { name, namespace } = metadata;
        const conditions = [{ type: 'Ready', status: 'True', lastTransitionTime: time() }];
        const status = { phase: 'Running', conditions };
        const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: namespace ?? '' }, status };
        await cluster.applyStatus(PODS, pod, MANAGER);
      }
      const deployment = await cluster.get(DEPLOYMENTS, { name: 'cli-operator', namespace: NAMESPACE });
      expect(deployment?.status).toMatchObject({ readyReplicas: 1 });
    });
  }

  async function makeAgentPod(): Promise<void> {
    const metadata = { name: 'cli-agent-1', namespace: NAMESPACE, labels: labelsOf('agent') };
    const pod = { apiVersion: 'v1', kind: 'Pod', metadata };
    const { spec } = workload(
      'DaemonSet',
      'agent',
      {},
      { nodeName: NODE, tolerations: [{ operator: 'Exists' }] },
    );
    const { template } = spec as { readonly template: { readonly spec: object } };
    await cluster.apply(PODS, { ...pod, spec: template.spec }, MANAGER);
    await cluster.applyStatus(PODS, { ...pod, status: { phase: 'Running' } }, MANAGER);
  }

  beforeAll(async () => {
    const labels = { 'pod-security.kubernetes.io/enforce': 'restricted' };
    const namespace = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE, labels } };
    await cluster.apply(NAMESPACES, namespace, MANAGER);
    await cluster.apply(DEPLOYMENTS, workload('Deployment', 'operator', { replicas: 1 }, {}), MANAGER);
    const nowhere = { nodeSelector: { 'cli-test': 'none' } };
    await cluster.apply(DAEMON_SETS, workload('DaemonSet', 'agent', {}, nowhere), MANAGER);
    await makeNode(admin, NODE, { role: 'cli-test' });
    await makePolicy();
    await makeNodeObject();
    await operatorRuns();
  });

  afterAll(async () => {
    await cluster.delete(SERVICE_SLICES, { name: 'cli-0' });
    await cluster.delete(IPVS_BPF_NODES, { name: NODE });
    await cluster.delete(POLICIES, { name: POLICY });
    await cluster.delete(NAMESPACES, { name: NAMESPACE });
    await cluster.delete(NODES, { name: NODE });
    await admin.config.close();
    rmSync(directory, { recursive: true });
  });

  describe('status', () => {
    const status = (...args: readonly string[]) => run(['status', '-n', NAMESPACE, POLICY, ...args]);

    it('is ready when all is', async () => {
      const { status: code, stdout, stderr } = await status('-o', 'json');
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(JSON.parse(stdout)).toMatchObject({
        kind: 'ClusterStatus',
        ready: true,
        operator: { namespace: NAMESPACE, name: 'cli-operator', desired: 1, ready: 1 },
        agents: { name: 'cli-agent', desired: 0 },
        policies: [{ name: POLICY, ready: true, reason: 'DryRunPassed' }],
        warnings: [{ about: `Node ${NODE}`, reason: 'ForeignPrograms' }],
      });
    });

    it('is not ready while the policy is not, and says why', async () => {
      await say('False', 'RollingOut', '0 of 1 node ready.');
      const { status: code, stdout } = await status();
      expect(code).toBe(1);
      expect(stdout).toContain(`Policy ${POLICY}: RollingOut: 0 of 1 node ready.`);
      expect(await status('--wait', '--wait-duration', '3s')).toMatchObject({ status: 1 });
    });

    it('--wait ends when it is', async () => {
      await say('False', 'RollingOut', '0 of 1 node ready.');
      const args = ['status', '-n', NAMESPACE, POLICY, '--wait', '--wait-duration', '2m'];
      const env = { PATH: process.env.PATH, KUBECONFIG: kubeconfigFile() };
      const child = spawn(process.execPath, [CLI, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
      const ended = new Promise((resolve) => child.once('close', resolve));
      let stdout = '';
      let stderr = '';
      child.stdout.on('data', (chunk: Buffer) => {
        stdout += chunk;
      });
      child.stderr.on('data', (chunk: Buffer) => {
        stderr += chunk;
      });
      await expect.poll(() => stderr, PATIENT).toContain(`Not ready: Policy ${POLICY}: RollingOut`);
      await say('True', 'AllNodesReady', '1 Service on 1 node.');
      expect(await ended).toBe(0);
      expect(stdout).toMatch(/\nReady\.\n$/);
    });

    it('is what kubectl runs as its plugin', async () => {
      const plugin = join(directory, 'kubectl-ipvs_bpf');
      writeFileSync(plugin, `#!/bin/sh\nexec "${process.execPath}" "${CLI}" "$@"\n`);
      chmodSync(plugin, 0o755);
      const kubectl = process.env.IPVS_BPF_TEST_KUBECTL ?? 'kubectl';
      const args = ['ipvs-bpf', 'status', '-n', NAMESPACE, '--kubeconfig', kubeconfigFile() ?? '', POLICY];
      const ended = await end(kubectl, args, { PATH: `${directory}:${process.env.PATH}` });
      expect(ended).toMatchObject({ status: 0, stdout: expect.stringContaining('cli-operator') });
    });
  });

  it('preflight tells the checks and the module of each node', async () => {
    const { status, stdout } = await run(['preflight', '-o', 'json']);
    // The Node has no kernel here, and so no mapping fits.
    expect(status).toBe(1);
    const { nodes } = JSON.parse(stdout) as { readonly nodes: readonly { readonly node: string }[] };
    expect(nodes.find(({ node }) => node === NODE)).toMatchObject({
      policy: POLICY,
      kubeProxy: 'ipvs v1.34.4',
      result: 'Failed',
      module: { fits: false },
      findings: [{ check: 'ForeignPrograms', result: 'Warn' }],
    });
  });

  it('preflight --kernel tells which module nodes would get', async () => {
    const fits = await run(['preflight', '--kernel', '6.1.0-99-amd64']);
    expect(fits.stdout).toMatch(new RegExp(`^${POLICY} +/srv/ip_vs.ko \\(regexp 6`, 'm'));
    const none = await run(['preflight', '--kernel', '6.99.0']);
    expect(none.stdout).toContain('count as failed');
    expect(none.status).toBe(1);
  });

  describe('conn-test', () => {
    const args = ['conn-test', '-n', NAMESPACE, '--node', NODE, '--service', 'default/cli-web'];
    const pods = () =>
      cluster.list(PODS, {
        namespace: NAMESPACE,
        labelSelector: 'app.kubernetes.io/name=ipvs-bpf-conn-test',
      });
    /** Without a kubelet a pod that is deleted stays until it is taken for lost. */
    const allDeleted = async () =>
      (await pods()).every(({ metadata }) => metadata.deletionTimestamp !== undefined);

    it('says of a pod that does not run why, and removes it', async () => {
      const { status, stdout } = await run([...args, '--timeout', '3s', '-o', 'json']);
      expect(status).toBe(1);
      expect(JSON.parse(stdout)).toMatchObject({
        connections: [
          {
            node: NODE,
            service: 'default/cli-web',
            target: '10.96.7.7:80',
            result: 'NotTried',
            accelerated: false,
            message: expect.stringContaining('did not run in time'),
          },
        ],
      });
      // That it was made at all shows that it fits Pod Security Standard restricted.
      expect(await allDeleted()).toBe(true);
    });

    it.each(['SIGINT', 'SIGTERM'] as const)('removes its pods on %s', async (signal) => {
      const env = { PATH: process.env.PATH, KUBECONFIG: kubeconfigFile() };
      const child = spawn(process.execPath, [CLI, ...args], { env, stdio: 'ignore' });
      const ended = new Promise((resolve) => child.once('close', resolve));
      await expect.poll(allDeleted, PATIENT).toBe(false);
      child.kill(signal);
      expect(await ended).toBe(1);
      expect(await allDeleted()).toBe(true);
    });
  });

  it('top says that no agent runs', async () => {
    expect(await run(['top', '--once', '-n', NAMESPACE])).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('no agent runs'),
    });
  });

  it('top says which node cannot be asked', async () => {
    await makeAgentPod();
    const top = await run(['top', '--once', '-n', NAMESPACE]);
    expect(top.stderr).toMatch(new RegExp(`^${NODE}: run ".*node top.*" in pod ${NAMESPACE}/cli-agent-1: `));
    expect(top.status).toBe(1);
  });

  it('sysdump has what there is, says what it lacks, and has no secret', async () => {
    const file = join(directory, 'dump.tar.gz');
    const { status, stderr, stdout } = await run(['sysdump', '-n', NAMESPACE, '-o', file]);
    expect(stdout).toBe(`${file}\n`);
    // No kubelet answers.
    expect(stderr).toMatch(/^missing: cli-test\/logs\/cli-agent-1\.log: /m);
    expect(stderr).toMatch(new RegExp(`^missing: nodes/${NODE}/top.json: `, 'm'));
    expect(status).toBe(1);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(await end('tar', ['-xzf', file, '-C', directory], {})).toMatchObject({ status: 0 });
    const root = join(directory, 'dump');
    const read = (path: string) => readFileSync(join(root, path), 'utf8');
    expect(read('cluster/ipvsbpfpolicies.json')).toContain(POLICY);
    expect(read('cluster/ipvsbpfserviceslices.json')).toContain('10.96.7.7');
    expect(read('cli-test/deployments.json')).toContain('API_TOKEN');
    expect(read('errors.txt')).toContain('cli-agent-1');
    const files = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) =>
      entry.isFile(),
    );
    expect(files.length).toBeGreaterThan(10);
    for (const { parentPath, name } of files) {
      expect(readFileSync(join(parentPath, name), 'utf8'), name).not.toContain(SECRET);
    }
  });

  it.each([['status'], ['preflight'], ['conn-test'], ['top'], ['sysdump']])(
    '%s without rights ends with 3 and says which one is missing',
    async (command) => {
      const file = join(directory, 'nobody');
      const { config } = connect(await tokenOf(admin, 'default'));
      writeFileSync(file, config.exportConfig());
      const { status, stdout, stderr } = await run([command], file);
      expect(stderr).toMatch(/403 Forbidden: .*cannot list resource/);
      expect(stderr).toContain('docs/cli.md#the-cluster');
      expect(stdout).toBe('');
      expect(status).toBe(3);
    },
  );
});
