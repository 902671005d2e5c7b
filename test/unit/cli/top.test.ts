// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { showTraffic, type TopOptions } from '../../../src/cli/top.ts';
import { ClusterError } from '../../../src/core/cluster-error.ts';
import { PODS } from '../../../src/core/resource-types.ts';
import type { TrafficRates } from '../../../src/core/traffic.ts';
import { FakeCluster } from '../../fakes/fake-cluster.ts';
import { FakePods } from '../../fakes/fake-pods.ts';
import { agentPod, NAMESPACE } from './objects.ts';

const OPTIONS: TopOptions = { output: 'json', interval: 1, lines: 10, once: true };

function rates(packets: number): TrafficRates {
  const none = {
    outPacketsPerSecond: 0,
    inBytesPerSecond: 0,
    outBytesPerSecond: 0,
    connectionsPerSecond: 0,
    forwardedPerSecond: 0,
  };
  const row = {
    name: 'a/web',
    whitelisted: true,
    acceleratedShare: 1,
    forwardedShare: 0,
    connections: 2,
    sessions: 2,
    ...none,
  };
  return {
    seconds: 1,
    translatedPerSecond: packets,
    droppedPerSecond: 0,
    rows: [{ ...row, inPacketsPerSecond: packets }],
  };
}

describe('top of a cluster', () => {
  let cluster: FakeCluster;
  let pods: FakePods;
  let stdout: string;
  let stderr: string;

  beforeEach(() => {
    cluster = new FakeCluster();
    pods = new FakePods();
    stdout = '';
    stderr = '';
    for (const node of ['n1', 'n2']) cluster.put(PODS, agentPod(node));
    vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
      stdout += text;
      return true;
    });
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      stderr += text;
      return true;
    });
    pods.run = ({ name }, { onOutput }) => {
      const line = `${JSON.stringify(rates(name === 'agent-n1' ? 10 : 5))}\n`;
      onOutput(line.slice(0, 20));
      onOutput(line.slice(20));
      return { status: 0, stderr: '' };
    };
  });
  afterEach(() => vi.restoreAllMocks());

  const show = (change: Partial<TopOptions> = {}) =>
    showTraffic({ cluster, pods }, { ...OPTIONS, ...change });

  it('is the sum of what the agents say', async () => {
    expect(await show()).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      nodes: ['n1', 'n2'],
      translatedPerSecond: 15,
      rows: [{ name: 'a/web', inPacketsPerSecond: 15, sessions: 4 }],
    });
    expect(pods.commands).toEqual(
      ['n1', 'n2'].map(
        (node) =>
          `${NAMESPACE}/agent-${node}: /opt/ipvs-bpf/dist/ipvs-bpf node top -o json --interval 1 --times 1`,
      ),
    );
  });

  it('is of the nodes that are named', async () => {
    await show({ node: ['n2'] });
    expect(JSON.parse(stdout)).toMatchObject({ nodes: ['n2'], translatedPerSecond: 5 });
    await expect(show({ node: ['n3'] })).rejects.toThrow('no agent runs on node n3');
  });

  it('says which node could not be asked, and shows the others', async () => {
    const { run } = pods;
    pods.run = (pod, options) =>
      pod.name === 'agent-n1' ? { status: 1, stderr: 'IPVS: no answer\n' } : run(pod, options);
    expect(await show()).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ nodes: ['n2'] });
    expect(stderr).toBe('n1: IPVS: no answer\n');
  });

  it('ends when the right is missing', async () => {
    pods.run = () => {
      throw new ClusterError('run', { status: 403, reason: 'Forbidden', detail: 'no' });
    };
    await expect(show()).rejects.toMatchObject({ status: 403 });
  });
});
