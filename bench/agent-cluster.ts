// SPDX-License-Identifier: Apache-2.0
/** The agent's process with many Services on a node of a real cluster: its memory. */
import { setTimeout as sleep } from 'node:timers/promises';
import { say } from '../scripts/exec.ts';
import type { KernelSeries } from '../scripts/kernels.ts';
import { KubernetesCluster } from '../src/adapters/kubernetes.ts';
import { loadKubeConfig } from '../src/adapters/kubernetes-client.ts';
import type { KubeObject } from '../src/core/kube-object.ts';
import { ENDPOINT_SLICES, SERVICES } from '../src/core/resource-types.ts';
import { type ClusterSession, withSession } from '../test/cluster/session.ts';
import { HTTP_PORT, NAMESPACE } from '../test/cluster/shop.ts';
import { applyPolicy, conditionOf, startShop, thePolicy } from '../test/cluster/shop-session.ts';
import { MiB, median } from './scale-numbers.ts';

const NODE = 'n1';
const LABELS = { purpose: 'bench' };
const PARALLEL = 16;
/** kube-proxy makes thousands of virtual servers on an emulated processor, and each is probed. */
const LIMIT_MS = 3_600_000;
const POLL_MS = 10_000;
/** What the garbage collector tidies up after work is tidied up by then. */
const SETTLE_MS = 120_000;
/** The agent looks at everything each 5 s: several looks are in it. */
const SAMPLES = 31;

interface Memory {
  /** Bytes resident now: VmRSS. */
  readonly now: number;
  /** Bytes of that which no file has: RssAnon. */
  readonly anonymous: number;
  /** Bytes resident at the most so far: VmHWM. */
  readonly peak: number;
}

/**
 * On one node. The Services are of UDP, which nothing probes: 10,000 probes take an emulated processor two hours, and an
 * agent that probes is not idle.
 */
export async function measureInCluster(services: number, kernel: KernelSeries): Promise<void> {
  await withSession({ name: 'bench', nodes: 1, kernel }, async (session) => {
    await startShop(session, [NODE]);
    say(`making ${services} Services, and waiting for kube-proxy`);
    await makeServices(session, services);
    await untilProxied(session, services);
    await applyPolicy(session, [], { services: { selector: { serviceSelector: { matchLabels: LABELS } } } });
    await untilProbed(session);
    const rows = [await idleMemory(session, 'after the rollout')];
    await session.onNode(NODE, `kill -9 ${await agent(session)}`);
    await untilProbed(session);
    rows.push(await idleMemory(session, 'after a start'));
    process.stdout.write(
      `Linux ${kernel}, an agent in a cluster with ${services} Services:\n${rows.join('')}`,
    );
  });
}

async function makeServices(session: ClusterSession, count: number): Promise<void> {
  const [pod = ''] = (
    await session.kubectl([
      'get',
      'pods',
      '-n',
      NAMESPACE,
      '-l',
      'app=web',
      '-o',
      'jsonpath={.items[*].status.podIP}',
    ])
  ).split(' ');
  const config = loadKubeConfig({ file: session.kubeconfig });
  const cluster = new KubernetesCluster({ config, component: 'bench', instance: 'bench' });
  const names = Array.from({ length: count }, (_, i) => `web-${String(i).padStart(5, '0')}`).values();
  const worker = async (): Promise<void> => {
    for (const name of names) {
      await cluster.create(ENDPOINT_SLICES, endpointSliceOf(name, pod));
      await cluster.create(SERVICES, serviceOf(name));
    }
  };
  try {
    await Promise.all(Array.from({ length: PARALLEL }, worker));
  } finally {
    await config.close();
  }
}

function serviceOf(name: string): KubeObject {
  const spec = { ports: [{ name: 'data', port: 80, targetPort: HTTP_PORT, protocol: 'UDP' }] };
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: NAMESPACE, labels: LABELS },
    spec,
  };
}

function endpointSliceOf(service: string, address: string): KubeObject {
  const labels = { 'kubernetes.io/service-name': service };
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: `${service}-bench`, namespace: NAMESPACE, labels },
    addressType: 'IPv4',
    endpoints: [{ addresses: [address], conditions: { ready: true } }],
    ports: [{ name: 'data', port: HTTP_PORT, protocol: 'UDP' }],
  };
}

async function untilProxied(session: ClusterSession, services: number): Promise<void> {
  await until(session, 'kube-proxy', 'wc -l < /proc/net/ip_vs', (lines) => {
    say(`${lines.trim()} lines in the IPVS table`);
    // A line for each virtual server and one for its real server.
    return Number(lines) >= 2 * services;
  });
}

/** Until the policy is Ready and no virtual server waits for its probe. */
async function untilProbed(session: ClusterSession): Promise<void> {
  const waiting = `grep -o '"server":' /var/lib/ipvs-bpf/kubernetes.json | wc -l`;
  let ready: string | undefined;
  await until(session, 'the agent', waiting, async (count) => {
    ready = conditionOf(await thePolicy(session), 'Ready');
    const memory = await memoryOf(session).catch(() => undefined);
    const size =
      memory === undefined ? 'no agent' : `${MiB(memory.now)} now, ${MiB(memory.peak)} at the most`;
    say(`Ready=${ready}, ${count.trim()} virtual servers wait for their probe, ${size}`);
    return Number(count) === 0 && ready === 'True AllNodesReady';
  });
}

async function until(
  session: ClusterSession,
  what: string,
  script: string,
  done: (output: string) => boolean | Promise<boolean>,
): Promise<void> {
  await session.until(`${what} with all Services`, LIMIT_MS, async () => {
    if (await done(await session.onNode(NODE, script))) return true;
    await sleep(POLL_MS);
    return undefined;
  });
}

async function agent(session: ClusterSession): Promise<string> {
  return (await session.onNode(NODE, "pgrep -f 'ipvs-bpf.mjs agent$'")).trim();
}

async function memoryOf(session: ClusterSession): Promise<Memory> {
  const text = await session.onNode(NODE, `cat /proc/${await agent(session)}/status`);
  const of = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(text)?.[1]) * 1024;
  return { now: of('VmRSS'), anonymous: of('RssAnon'), peak: of('VmHWM') };
}

async function idleMemory(session: ClusterSession, when: string): Promise<string> {
  await sleep(SETTLE_MS);
  const samples: Memory[] = [];
  for (let i = 0; i < SAMPLES; i += 1) {
    samples.push(await memoryOf(session));
    await sleep(1_000);
  }
  const now = samples.map((sample) => sample.now);
  const files = median(samples.map((sample) => sample.now - sample.anonymous));
  const range = `${MiB(Math.min(...now))} to ${MiB(Math.max(...now))}`;
  const peak = Math.max(...samples.map((sample) => sample.peak));
  return [
    `| memory of the agent (RSS), idle ${when} | ${MiB(median(now))} (${range}), ${MiB(files)} of it files |\n`,
    `| … at the most until then | ${MiB(peak)} |\n`,
  ].join('');
}
