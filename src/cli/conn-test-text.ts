// SPDX-License-Identifier: Apache-2.0
/** The connection test, for people. */
import type { ConnectionTestRow } from '../core/connection-test.ts';
import { table } from '../core/text-table.ts';

export function connTestText(rows: readonly ConnectionTestRow[]): string {
  if (rows.length === 0)
    return 'There is nothing to connect to: no TCP Service is on the whitelist of these nodes.\n';
  const answered = rows.filter(({ result }) => result === 'Answered').length;
  const problems = new Map(
    rows.filter(({ message }) => message !== '').map(({ node, message }) => [node, message]),
  );
  return [
    ...table([
      ['NODE', 'SERVICE', 'ADDRESS', 'RESULT', 'MS', 'ACCELERATED'],
      ...rows.map(({ node, service, target, result, milliseconds, accelerated }) => [
        node,
        service,
        target,
        result,
        milliseconds === null ? '-' : String(milliseconds),
        accelerated ? 'yes' : 'no',
      ]),
    ]),
    ...[...problems].map(([node, message]) => `${node}: ${message}`),
    '',
    `${answered} of ${rows.length} answered`,
    '',
  ].join('\n');
}
