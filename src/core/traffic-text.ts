// SPDX-License-Identifier: Apache-2.0
/** What `top` shows. */
import { table } from './text-table.ts';
import type { TrafficRates, TrafficRow } from './traffic.ts';

const TITLES = [
  'SERVICE',
  'WHITELISTED',
  'CONNECTIONS',
  'SESSIONS',
  'ACCELERATED',
  'FORWARDED',
  'CONN/S',
  'PKT/S IN',
  'PKT/S OUT',
  'BYTES/S IN',
  'BYTES/S OUT',
];
/** Moves the cursor home and clears what is below it. */
const HOME = '\u001b[H\u001b[J';

export interface ScreenOptions {
  readonly lines: number;
  readonly once?: boolean;
  /** True on a terminal: each look replaces the one before. */
  readonly terminal?: boolean;
}

/** The busiest virtual servers or Services, and the packets of all. */
export function trafficText(rates: TrafficRates, { lines }: Pick<ScreenOptions, 'lines'>): string {
  const shown = rates.rows.slice(0, lines);
  const hidden = rates.rows.length - shown.length;
  return [
    `tc programs: ${quantity(rates.translatedPerSecond)} packets/s translated, ` +
      `${quantity(rates.droppedPerSecond)} packets/s dropped`,
    ...table([TITLES, ...shown.map(cells)]),
    ...(hidden > 0 ? [`and ${hidden} more (--lines)`] : []),
    '',
  ].join('\n');
}

/** The same, in place of what was shown before. */
export function trafficScreen(rates: TrafficRates, options: ScreenOptions): string {
  const replaces = options.terminal === true && options.once !== true;
  return `${replaces ? HOME : ''}${trafficText(rates, options)}`;
}

function cells(row: TrafficRow): string[] {
  return [
    row.name,
    row.whitelisted ? 'yes' : 'no',
    String(row.connections),
    String(row.sessions),
    percent(row.acceleratedShare),
    percent(row.forwardedShare),
    ...[
      row.connectionsPerSecond,
      row.inPacketsPerSecond,
      row.outPacketsPerSecond,
      row.inBytesPerSecond,
      row.outBytesPerSecond,
    ].map(quantity),
  ];
}

function percent(share: number | null): string {
  return share === null ? '-' : `${Math.round(share * 100)}%`;
}

/** "0", "3.2", "481", "12.5k", "3.1M" */
function quantity(value: number): string {
  const units = [
    { size: 1e9, letter: 'G' },
    { size: 1e6, letter: 'M' },
    { size: 1e4, letter: 'k' },
  ];
  const unit = units.find(({ size }) => value >= size);
  if (unit !== undefined)
    return `${(value / (unit.letter === 'k' ? 1e3 : unit.size)).toFixed(1)}${unit.letter}`;
  return value >= 10 || value === 0 ? value.toFixed(0) : value.toFixed(1);
}
