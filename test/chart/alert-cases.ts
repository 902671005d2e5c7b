// SPDX-License-Identifier: Apache-2.0
/**
 * Of each alert, series as Prometheus has them of the chart's monitors, at which moments it fires and with what, and at
 * which it does not. Values are in promtool's notation, one every 30 seconds from 0 on.
 */

export interface Moment {
  /** "6m", since the first values. */
  readonly at: string;
  /** What fires then; nothing if left out. */
  readonly fires?: readonly Firing[];
}

interface Firing {
  /** Without alertname and severity. */
  readonly labels: Readonly<Record<string, string>>;
  readonly summary: string;
}

export interface AlertCase {
  readonly name: string;
  readonly series: Readonly<Record<string, string>>;
  readonly moments: readonly Moment[];
}

const OPERATOR = {
  namespace: 'ipvs-bpf-system',
  pod: 'ipvs-bpf-operator-1',
  container: 'operator',
  service: 'ipvs-bpf-operator-metrics',
  endpoint: 'http',
  job: 'ipvs-bpf-operator-metrics',
  instance: '10.244.1.9:8080',
};
const STANDBY = { ...OPERATOR, pod: 'ipvs-bpf-operator-2', instance: '10.244.2.9:8080' };
const AGENT = {
  namespace: 'ipvs-bpf-system',
  pod: 'ipvs-bpf-agent-1',
  container: 'agent',
  endpoint: 'metrics',
  job: 'ipvs-bpf-system/ipvs-bpf-agent',
  instance: '10.10.0.11:9842',
  node: 'n1',
};
const OTHER = { ...AGENT, pod: 'ipvs-bpf-agent-2', instance: '10.10.0.12:9842', node: 'n2' };
/** What an aggregation over a node's series keeps. */
const { namespace, pod, node } = AGENT;
const OF_NODE = { namespace, pod, node };

function series(metric: string, ...labels: readonly Readonly<Record<string, string>>[]): string {
  const pairs = Object.entries(Object.assign({}, ...labels) as Record<string, string>);
  return `ipvsbpf_${metric}{${pairs.map(([name, value]) => `${name}="${value}"`).join(',')}}`;
}

/** For alerts about a number of nodes of a policy: from the minute on, then over. */
function problem(reason: string, { after, summary }: { readonly after: number; readonly summary: string }) {
  const labels = { ...OPERATOR, policy: 'shop', reason };
  return {
    name: `nodes with ${reason}`,
    series: { [series('policy_problem_nodes', labels)]: '2x60 stale' },
    moments: [
      { at: `${after * 60 - 30}s` },
      { at: `${after}m`, fires: [{ labels, summary }] },
      { at: '31m' },
    ],
  };
}

/** Other reasons than those are none of an alert's business. */
function otherProblems(...reasons: readonly string[]): AlertCase {
  const entries = reasons.map(
    (reason) => [series('policy_problem_nodes', OPERATOR, { policy: 'shop', reason }), '1x80'] as const,
  );
  return { name: 'other reasons', series: Object.fromEntries(entries), moments: [{ at: '40m' }] };
}

const DRIFT = { reason: 'SysctlChanged' };
const event = (name: string) => series('agent_datapath_events_total', AGENT, { event: name });

export const ALERT_CASES: Readonly<Record<string, readonly AlertCase[]>> = {
  IpvsBpfOperatorAbsent: [
    {
      name: 'nobody leads from the tenth minute on, until one does again',
      series: {
        [series('leader', OPERATOR)]: '1x20 0x20 1x10',
        [series('leader', STANDBY)]: '0x60',
      },
      moments: [
        { at: '10m' },
        { at: '15m' },
        { at: '16m', fires: [{ labels: {}, summary: 'No operator of ipvs-bpf leads.' }] },
        { at: '21m' },
      ],
    },
    {
      name: 'Prometheus reaches none',
      series: { [series('agent_switch_on', AGENT)]: '1x60' },
      moments: [
        { at: '4m' },
        { at: '5m', fires: [{ labels: {}, summary: 'No operator of ipvs-bpf leads.' }] },
      ],
    },
  ],
  IpvsBpfOperatorStuck: [
    {
      name: 'the leader did nothing with success since the fifth minute',
      series: {
        [series('leader', OPERATOR)]: '1x80',
        [series('reconcile_last_success_timestamp_seconds', OPERATOR, { key: 'cluster' })]: '0+30x10 300x70',
        // One that stands by never did anything, and another key is not what counts.
        [series('leader', STANDBY)]: '0x80',
        [series('reconcile_last_success_timestamp_seconds', STANDBY, { key: 'cluster' })]: '0x80',
        [series('reconcile_last_success_timestamp_seconds', OPERATOR, { key: 'agents' })]: '0x80',
      },
      moments: [
        { at: '25m' },
        {
          at: '26m',
          fires: [
            {
              labels: OPERATOR,
              summary: 'The operator of ipvs-bpf could not do all of its work for 15 minutes.',
            },
          ],
        },
      ],
    },
    {
      name: 'a leader that looks every ten seconds',
      series: {
        [series('leader', OPERATOR)]: '1x80',
        [series('reconcile_last_success_timestamp_seconds', OPERATOR, { key: 'cluster' })]: '0+30x80',
      },
      moments: [{ at: '40m' }],
    },
  ],
  IpvsBpfRolloutHalted: [
    {
      name: 'one of two policies',
      series: {
        [series('rollout_halted', OPERATOR, { policy: 'shop' })]: '0x4 1x10 0x10',
        [series('rollout_halted', OPERATOR, { policy: 'rest' })]: '0x30',
      },
      moments: [
        { at: '3m' },
        {
          at: '4m',
          fires: [
            { labels: { ...OPERATOR, policy: 'shop' }, summary: 'The rollout of policy shop is halted.' },
          ],
        },
        { at: '9m' },
      ],
    },
  ],
  IpvsBpfRollbackFailed: [
    problem('RollbackFailed', { after: 1, summary: '2 nodes of policy shop are half-way: RollbackFailed.' }),
    problem('NodeTimeout', { after: 1, summary: '2 nodes of policy shop are half-way: NodeTimeout.' }),
    otherProblems('RolledBack', 'NodeFailed', 'AgentUnreachable'),
  ],
  IpvsBpfNodeFailed: [
    problem('RolledBack', { after: 5, summary: '2 nodes of policy shop failed: RolledBack.' }),
    problem('NodeFailed', { after: 5, summary: '2 nodes of policy shop failed: NodeFailed.' }),
    otherProblems('RollbackFailed', 'NodeTimeout', 'ServiceOff'),
  ],
  IpvsBpfAgentUnreachable: [
    {
      name: 'one node, then none',
      series: {
        [series('policy_nodes', OPERATOR, { policy: 'shop', state: 'unreachable' })]: '0x10 1x40 0x10',
        [series('policy_nodes', OPERATOR, { policy: 'shop', state: 'ready' })]: '3x60',
      },
      moments: [
        { at: '15m' },
        {
          at: '16m',
          fires: [
            {
              labels: { ...OPERATOR, policy: 'shop', state: 'unreachable' },
              summary: 'The agents of 1 nodes of policy shop are silent.',
            },
          ],
        },
        { at: '27m' },
      ],
    },
  ],
  IpvsBpfDriftUncorrected: [
    problem('DriftUncorrected', {
      after: 10,
      summary: '2 nodes of policy shop are not as the agent set them.',
    }),
    otherProblems('NodeFailed', 'PreflightFailed'),
  ],
  IpvsBpfKernelNotMapped: [
    problem('KernelNotMapped', {
      after: 15,
      summary: '2 nodes of policy shop run a kernel that no mapping fits.',
    }),
    otherProblems('PreflightFailed', 'ModuleNotDelivered'),
  ],
  IpvsBpfPreflightFailed: [
    problem('PreflightFailed', { after: 15, summary: '2 nodes of policy shop do not pass their checks.' }),
    otherProblems('KernelNotMapped', 'ModuleNotDelivered'),
  ],
  IpvsBpfModuleNotDelivered: [
    problem('ModuleNotDelivered', {
      after: 15,
      summary: '2 nodes of policy shop do not get the module for their kernel.',
    }),
    otherProblems('KernelNotMapped', 'PreflightFailed'),
  ],
  IpvsBpfServiceOff: [
    problem('ServiceOff', {
      after: 15,
      summary: '2 nodes of policy shop took a Service off their whitelist.',
    }),
    otherProblems('NodeFailed', 'RolledBack'),
  ],
  IpvsBpfAgentLookFailing: [
    {
      name: 'the agent of one node sees nothing since the second minute',
      series: {
        [series('agent_last_look_timestamp_seconds', AGENT)]: '0+30x4 120x40',
        [series('agent_last_look_timestamp_seconds', OTHER)]: '0+30x44',
      },
      moments: [
        { at: '12m' },
        {
          at: '13m',
          fires: [{ labels: AGENT, summary: 'The agent of n1 cannot see what its node is like.' }],
        },
      ],
    },
  ],
  IpvsBpfProbeFailing: [
    {
      // The value of the probe itself is there for one look of five seconds: nothing is probed after the fall.
      name: 'a node that went down the ladder, until it is tried again',
      series: {
        [series('agent_probe_success', AGENT)]: '1x4 0 stale',
        [series('agent_condition', AGENT, { type: 'Validated', status: 'True', reason: 'ProbesPassed' })]:
          '1x4 stale',
        [series('agent_condition', AGENT, { type: 'Validated', status: 'False', reason: 'ProbeFailed' })]:
          '_x5 1x15 stale',
        [series('agent_condition', OTHER, { type: 'Validated', status: 'True', reason: 'ProbesPassed' })]:
          '1x30',
        [series('agent_condition', OTHER, { type: 'Drifted', status: 'False', reason: 'InSync' })]: '1x30',
      },
      moments: [
        { at: '3m' },
        {
          at: '4m',
          fires: [
            {
              labels: { ...AGENT, type: 'Validated', status: 'False', reason: 'ProbeFailed' },
              summary: 'Packets did not come through on the accelerated path of n1 (ProbeFailed).',
            },
          ],
        },
        { at: '11m' },
      ],
    },
  ],
  IpvsBpfDriftRecurring: [
    {
      name: 'one change every five minutes',
      series: {
        [series('agent_drift_total', AGENT, DRIFT)]: '0x9 1x9 2x9 3x9 4x9 5x9 6x9 7x9 8x9 9x60',
        [series('agent_drift_total', AGENT, { reason: 'HookMissing' })]: '0x150',
        [series('agent_drift_total', OTHER, DRIFT)]: '0x150',
      },
      moments: [
        { at: '30m' },
        {
          at: '44m',
          fires: [
            {
              labels: { ...OF_NODE, ...DRIFT },
              summary: 'Something on n1 changes again and again what the agent sets (SysctlChanged).',
            },
          ],
        },
      ],
    },
    {
      name: 'four changes, and no more',
      series: { [series('agent_drift_total', AGENT, DRIFT)]: '0x9 1x9 2x9 3x9 4x160' },
      moments: [{ at: '30m' }, { at: '60m' }, { at: '90m' }],
    },
  ],
  IpvsBpfMapPressure: [
    {
      name: 'full but for five percent, then for ten',
      series: {
        [series('agent_session_map_entries', AGENT)]: '95x20 90x20',
        [series('agent_session_map_max_entries', AGENT)]: '100x40',
        [series('agent_session_map_entries', OTHER)]: '10x40',
        [series('agent_session_map_max_entries', OTHER)]: '100x40',
      },
      moments: [
        { at: '4m30s' },
        { at: '5m', fires: [{ labels: AGENT, summary: 'The session map of n1 is 95% full.' }] },
        { at: '15m' },
      ],
    },
  ],
  IpvsBpfConnectionsRefused: [
    {
      name: 'packets that find no port, for ten minutes',
      series: {
        [event('DropNoPort')]: '0x10 1+1x20 21x40',
        [event('DropNoSession')]: '0+5x70',
        [event('Snat')]: '0+1000x70',
      },
      moments: [
        { at: '10m' },
        {
          at: '12m',
          fires: [
            {
              labels: { ...OF_NODE, event: 'DropNoPort' },
              summary: 'Accelerated packets are dropped on n1 (DropNoPort).',
            },
          ],
        },
        { at: '25m' },
      ],
    },
    {
      name: 'one burst',
      series: { [event('DropMapFull')]: '0x10 500x60' },
      moments: [{ at: '6m' }, { at: '9m' }, { at: '10m' }, { at: '11m' }, { at: '20m' }],
    },
    {
      name: 'counters that begin anew with new maps',
      series: { [event('DropRewrite')]: '40x10 0x40' },
      moments: [{ at: '8m' }, { at: '12m' }, { at: '20m' }],
    },
  ],
};
