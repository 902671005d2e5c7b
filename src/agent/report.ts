// SPDX-License-Identifier: Apache-2.0
/** What the commands print on standard output, for people. */
import type { NodeStatus } from '../api/node-status.ts';
import { endText } from '../core/addresses.ts';
import type { Check } from '../core/preflight.ts';
import { table } from '../core/text-table.ts';
import type { Outcome, StatusReport } from './reconcile.ts';

/** One paragraph on what `up` or `down` did. */
export function outcomeText(verb: 'up' | 'down', outcome: Outcome): string {
  const count = outcome.steps.length;
  const done = count === 0 ? 'Nothing to do.' : `${verb}: ${count} step${count === 1 ? '' : 's'} done.`;
  const { connectionsLost } = outcome;
  const lost =
    connectionsLost === 0
      ? 'No connection was lost.'
      : `The module was exchanged: ${connectionsLost} connection${connectionsLost === 1 ? ' was' : 's were'} lost.`;
  const boot = outcome.waitsForBoot
    ? ['The next boot loads the patched module: reboot this machine, then run the command again.']
    : [];
  const warnings = outcome.warnings.map(({ check, message }) => `Warning: ${check}: ${message}`);
  return [done, ...(count === 0 ? [] : [lost]), ...boot, ...warnings, ''].join('\n');
}

/** The status as tables, and what differs from the config. */
export function statusText({ status, differences }: StatusReport): string {
  const { module, sessions } = status;
  const verdict = differences.length === 0 ? ['The node is as the config asks for.'] : ['Differences:'];
  return [
    ...table([
      ['Mode', status.mode],
      ['Module', `${module.origin} ${module.srcversion}`.trim()],
      ['Kernel', module.kernelRelease],
      ['Switch', status.switch],
      ['Sessions', `${sessions.entries} of ${sessions.maxEntries}`],
    ]),
    ...section('Virtual servers', virtualServerRows(status)),
    ...section('Interfaces', interfaceRows(status)),
    ...section('Sysctls', sysctlRows(status)),
    ...section('Counters', counterRows(status)),
    '',
    ...verdict,
    ...differences.map((difference) => `  ${difference}`),
    '',
  ].join('\n');
}

/** Each check with its result; what was found where it did not pass. */
export function checksText(checks: readonly Check[]): string {
  const rows = checks.map(({ check, result, message }) => [check, result, message]);
  return table(rows)
    .map((line) => `${line}\n`)
    .join('');
}

function virtualServerRows({ virtualServers }: NodeStatus): readonly string[][] {
  return virtualServers.map(({ protocol, address, port, accelerated, reason }) => [
    protocol,
    endText(address, port),
    accelerated ? 'accelerated' : `native (${reason})`,
  ]);
}

function interfaceRows({ interfaces }: NodeStatus): readonly string[][] {
  return interfaces.map(({ name, attach, ingress, egress }) => [
    name,
    attach,
    `ingress ${ingress ? 'attached' : 'missing'}`,
    `egress ${egress ? 'attached' : 'missing'}`,
  ]);
}

function sysctlRows({ sysctls }: NodeStatus): readonly string[][] {
  return sysctls.map(({ name, desired, actual }) => [
    `net.ipv4.vs.${name}`,
    `${actual ?? 'missing'}`,
    actual === desired ? '' : `(should be ${desired})`,
  ]);
}

/** Those that never counted anything say nothing. */
function counterRows({ counters }: NodeStatus): readonly string[][] {
  return counters
    .filter(({ packets }) => packets > 0)
    .map(({ reason, packets }) => [reason, String(packets)]);
}

function section(title: string, rows: readonly string[][]): readonly string[] {
  return rows.length === 0 ? [] : ['', title, ...table(rows).map((line) => `  ${line}`)];
}
