// SPDX-License-Identifier: Apache-2.0
/** What the agent's metrics say of what happens on a node. */
import { beforeEach, describe, expect, it } from 'vitest';
import { HostError } from '../../../src/core/errors.ts';
import { NODE_CONDITIONS } from '../../../src/core/reasons.ts';
import { ClusterNode, SERVICE, VS } from './cluster-node.ts';
import { SECOND_REVISION } from './one-node.ts';

/** The lines of a metric, without its prefix and sorted: 'services{state="accelerated"} 1'. */
async function lines(world: ClusterNode, metric: string): Promise<readonly string[]> {
  const text = await world.measures.text();
  const found = text.split('\n').filter((line) => new RegExp(`^ipvsbpf_agent_${metric}[{ ]`).test(line));
  return found.map((line) => line.replace('ipvsbpf_agent_', '')).sort();
}

describe('metrics of an agent', () => {
  let world: ClusterNode;

  beforeEach(() => {
    world = new ClusterNode();
    world.serve();
  });

  async function accelerate(): Promise<void> {
    world.put();
    await world.look(2);
  }

  it('say nothing of a node that nothing is known of', async () => {
    for (const metric of ['node_info', 'switch_on', 'probe_success', 'session_map_entries', 'condition']) {
      expect(await lines(world, metric), metric).toEqual([]);
    }
    expect(await lines(world, 'build_info')).toEqual(['build_info{version="0.0.0"} 1']);
  });

  it('say what an accelerated node runs', async () => {
    await accelerate();
    const { srcversion } = world.status.module ?? {};
    expect(await lines(world, 'node_info')).toEqual([
      `node_info{origin="Patched",srcversion="${srcversion}",kernel="${world.status.kernelRelease}",revision="r1"} 1`,
    ]);
    expect(await lines(world, 'switch_on')).toEqual(['switch_on 1']);
    expect(await lines(world, 'probe_success')).toEqual(['probe_success 1']);
    expect(await lines(world, 'services')).toEqual([
      'services{state="accelerated"} 1',
      'services{state="rejected"} 0',
    ]);
    expect(await lines(world, 'session_map_max_entries')).toEqual(['session_map_max_entries 4096']);
    expect(await lines(world, 'condition')).toContain(
      'condition{type="Ready",status="True",reason="Accelerating"} 1',
    );
    expect(await lines(world, 'api_connected')).toEqual(['api_connected 1']);
    expect(await lines(world, 'failures_total')).toEqual([]);
  });

  it('time every step, and say what the exchange of the module cost', async () => {
    await accelerate();
    const steps = await lines(world, 'step_duration_seconds_count');
    expect(steps).toContain('step_duration_seconds_count{step="insertModule",outcome="done"} 1');
    expect(steps.filter((line) => line.includes('"failed"'))).toEqual([]);
    const { outageMilliseconds = 0, connectionsDropped } = world.status.lastDisruption ?? {};
    expect(await lines(world, 'last_outage_seconds')).toEqual([
      `last_outage_seconds ${outageMilliseconds / 1000}`,
    ]);
    expect(await lines(world, 'last_outage_connections_dropped')).toEqual([
      `last_outage_connections_dropped ${connectionsDropped}`,
    ]);
  });

  it('count a failure once, with where the node stopped', async () => {
    world.fail('modules.insertFile', 'ModuleInvalid', 1);
    await accelerate();
    await world.look(3);
    expect(world.status.lastFailure?.reason).toBe('ModuleInvalid');
    expect(await lines(world, 'failures_total')).toEqual([
      'failures_total{step="insertModule",reason="ModuleInvalid"} 1',
    ]);
    expect(await lines(world, 'rollbacks_total')).toEqual([
      'rollbacks_total{rung="ModuleRestored",outcome="Succeeded"} 1',
    ]);
    expect(await lines(world, 'step_duration_seconds_count')).toContain(
      'step_duration_seconds_count{step="insertModule",outcome="failed"} 1',
    );
  });

  it('count a drift once, however long it lasts, and again when it comes back', async () => {
    const counted = async () => (await lines(world, 'drift_total')).filter((line) => !line.endsWith(' 0'));
    // Prometheus' increase() does not see the first step of a series that begins at 1.
    expect(await lines(world, 'drift_total')).toHaveLength(NODE_CONDITIONS.Drifted.True.length);
    await accelerate();
    expect(await counted()).toEqual([]);
    const overwrite = () => world.machine.host.control(`${VS}/expire_nodest_conn`, '0');
    overwrite();
    await world.look(3);
    expect(await counted()).toEqual(['drift_total{reason="SysctlChanged"} 1']);
    world.put({ driftPolicy: 'Correct' });
    await world.look(3);
    overwrite();
    await world.look(2);
    expect(await counted()).toEqual(['drift_total{reason="SysctlChanged"} 2']);
  });

  it('say that the probe fails', async () => {
    await accelerate();
    world.machine.calls.fail('selfCheck.run', new HostError('no answer', { code: 'CommandFailed' }), 1);
    await world.node.ports.clock.sleep(61_000);
    world.machine.kubeProxy.end(4711);
    await world.look();
    expect(await lines(world, 'probe_success')).toEqual(['probe_success 0']);
    expect(await lines(world, 'failures_total')).toEqual([
      'failures_total{step="selfCheck",reason="ProbeFailed"} 1',
    ]);
  });

  it('time how long an edit of the whitelist takes, and leave out what waits for a new revision', async () => {
    const counted = () => lines(world, 'whitelist_sync_seconds_count');
    await accelerate();
    expect(await counted()).toEqual(['whitelist_sync_seconds_count 0']);
    world.list(SERVICE, { ...SERVICE, name: 'other', virtualServers: [] });
    await world.look(2);
    expect(await counted()).toEqual(['whitelist_sync_seconds_count 1']);
    world.put({ ...SECOND_REVISION });
    world.list(SERVICE);
    await world.look(2);
    expect(world.status.appliedRevision).toBe('r2');
    expect(await counted()).toEqual(['whitelist_sync_seconds_count 1']);
  });

  it('count looks by how they end', async () => {
    world.measures.looked('done');
    world.measures.looked('failed');
    expect(await lines(world, 'looks_total')).toEqual([
      'looks_total{outcome="done"} 1',
      'looks_total{outcome="failed"} 1',
    ]);
    expect(await lines(world, 'last_look_timestamp_seconds')).toEqual([
      `last_look_timestamp_seconds ${world.now / 1000}`,
    ]);
  });
});
