// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { type Measurement, parseMeasurement, reduction, summarize, table } from '../../../bench/results.ts';

function measured(path: Measurement['path'], short: readonly number[], long: number, conntrack: number) {
  const repeats = short.flatMap((value, i): Measurement[] => [
    { path, kind: 'short', repeat: i + 1, value },
    { path, kind: 'long', repeat: i + 1, value: long },
  ]);
  return [...repeats, { path, kind: 'conntrack', repeat: 1, value: conntrack } as const];
}

const alone = { kernel: '6.1.0-1-amd64', family: 'IPv4', beside: { services: 0, sessions: 0 } } as const;
const all = [
  ...measured('direct', [151_000, 152_000, 151_500], 240_000, 0),
  ...measured('ipvs', [251_500, 251_400, 251_900], 270_000, 1000),
  ...measured('ipvs-bpf', [211_500, 211_500, 211_500], 260_000, 0),
];

describe('summarize', () => {
  it('takes the median, subtracts the base and tells the spread', () => {
    expect(summarize(alone, all).paths[1]).toEqual({
      name: 'ipvs',
      shortRequest: { instructions: 251_500, lbShare: 100_000, spread: 500, conntrackEntries: 1000 },
      longTransfer: { instructionsPer64KiB: 270_000, lbShare: 30_000 },
    });
  });

  it('refuses a path of which something is missing', () => {
    const part = all.filter(({ path, kind }) => path !== 'ipvs' || kind !== 'conntrack');
    expect(() => summarize(alone, part)).toThrow('path ipvs was not measured: no conntrack');
  });
});

describe('reduction', () => {
  it('compares the shares, not the totals', () => {
    expect(reduction(summarize(alone, all))).toBeCloseTo(40);
  });

  it('is unknown when a path was left out', () => {
    const part = all.filter(({ path }) => path !== 'ipvs');
    expect(reduction(summarize(alone, part))).toBeUndefined();
  });
});

describe('table', () => {
  it('lines its columns up', () => {
    expect(table(summarize(alone, all)).split('\n')).toEqual([
      'Linux 6.1.0-1-amd64, IPv4, thousands of instructions, whole system',
      'path      a request  LB share  spread  conntrack  64 KiB  LB share',
      'direct        151.5       0.0     1.0          0   240.0       0.0',
      'ipvs          251.5     100.0     0.5       1000   270.0      30.0',
      'ipvs-bpf      211.5      60.0     0.0          0   260.0      20.0',
    ]);
  });
});

describe('table of what was measured beside others', () => {
  it('says beside what, and what a session costs', () => {
    const memory = { path: 'ipvs-bpf', kind: 'memory', repeat: 1, value: 380 } as const;
    const crowded = { ...alone, beside: { services: 1000, sessions: 100_000 } };
    expect(table(summarize(crowded, [...all, memory])).split('\n')).toEqual([
      'Linux 6.1.0-1-amd64, IPv4, thousands of instructions, whole system, ' +
        'beside 1000 further Services and 100000 open sessions',
      'path      a request  LB share  spread  conntrack  64 KiB  LB share  bytes a session',
      'direct        151.5       0.0     1.0          0   240.0       0.0',
      'ipvs          251.5     100.0     0.5       1000   270.0      30.0',
      'ipvs-bpf      211.5      60.0     0.0          0   260.0      20.0              380',
    ]);
  });
});

describe('parseMeasurement', () => {
  it.each(['{"path":"x","kind":"short","repeat":1,"value":1}', '{"path":"ipvs","kind":"short","repeat":1}'])(
    'refuses %s',
    (line) => {
      expect(() => parseMeasurement(line)).toThrow('not a measurement');
    },
  );
});
