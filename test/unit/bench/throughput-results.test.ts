// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import {
  CASES,
  checkErrors,
  checkTracked,
  idleCases,
  type Measurement,
  parseIperf,
  parseWrk,
  summarize,
  table,
} from '../../../bench/throughput-results.ts';

const wrk = `Running 5s test @ http://10.9.0.1:80/
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.72ms  850.10us  11.03ms   90.11%
    Req/Sec     5.76k   412.00     6.31k    72.00%
  Latency Distribution
     50%  980.00us
     75%    1.90ms
     90%    2.40ms
     99%    1.02s 
  28650 requests in 5.01s, 11.20MB read
  Socket errors: connect 1, read 2, write 3, timeout 4
Requests/sec:   5718.56
Transfer/sec:      2.24MB
`;

describe('parseWrk', () => {
  it('takes units of time as they come, and adds up the errors', () => {
    expect(parseWrk(wrk)).toEqual({
      answered: 28_650,
      perSecond: 5718.56,
      p50Ms: 0.98,
      p99Ms: 1020,
      errors: 10,
    });
  });

  it('finds no errors where wrk speaks of none', () => {
    expect(parseWrk(wrk.replace(/^.*Socket errors.*\n/m, '')).errors).toBe(0);
  });

  it('refuses answers of another status', () => {
    const text = wrk.replace('Requests/sec', '  Non-2xx or 3xx responses: 7\nRequests/sec');
    expect(() => parseWrk(text)).toThrow("7 answers of wrk's requests were not 2xx or 3xx");
  });

  it.each([' 50%', 'requests in', 'Requests/sec'])('refuses output without %s', (part) => {
    expect(() => parseWrk(wrk.replace(part, ''))).toThrow('wrk did not say what was expected');
  });
});

describe('parseIperf', () => {
  it('takes what the server received', () => {
    const end = { sum_sent: { bits_per_second: 9e8 }, sum_received: { bits_per_second: 8.5e8 } };
    expect(parseIperf(JSON.stringify({ end }))).toBe(850);
  });

  it.each([
    [{ error: 'unable to connect to server' }, 'iperf3: unable to connect to server'],
    [{ end: {} }, 'iperf3 measured nothing'],
    [{ end: { sum_received: { bits_per_second: 0 } } }, 'iperf3 measured nothing'],
  ])('refuses %j', (report, message) => {
    expect(() => parseIperf(JSON.stringify(report))).toThrow(message);
  });
});

const [routed, native, , accelerated] = CASES;
const requests = { answered: 2000, perSecond: 400, p50Ms: 1, p99Ms: 2, errors: 0 };

describe('checkErrors', () => {
  it('allows one in a thousand', () => {
    expect(() => checkErrors(native, { ...requests, errors: 2 })).not.toThrow();
    expect(() => checkErrors(native, { ...requests, errors: 3 })).toThrow(
      'ipvs ClusterIP: 3 socket errors with 2000 answers; one in 1000 is allowed',
    );
  });

  it('refuses a run without an answer', () => {
    expect(() => checkErrors(routed, { ...requests, answered: 0 })).toThrow('routed: no answers');
  });
});

describe('checkTracked', () => {
  it('wants conntrack entries of native IPVS', () => {
    expect(() => checkTracked(native, requests, 2000)).not.toThrow();
    expect(() => checkTracked(native, requests, 3)).toThrow(
      'ipvs ClusterIP: 3 conntrack entries of 2000 requests',
    );
  });

  it.each([routed, accelerated])('wants none of $path', (each) => {
    expect(() => checkTracked(each, requests, 3)).not.toThrow();
    expect(() => checkTracked(each, requests, 2000)).toThrow('2000 conntrack entries of 2000 requests');
  });
});

/** Paths and rounds differ: `factor` is of the path, and each round is slower by a tenth. */
function measured(rounds: number): Measurement[] {
  const factor = { routed: 6000, ipvs: 3000, 'ipvs-bpf': 5400 };
  return Array.from({ length: rounds }, (_, index) =>
    CASES.map((each): Measurement => {
      const perSecond = factor[each.path] * (1 - index / 10);
      const p99Ms = 6000 / perSecond;
      return {
        round: index + 1,
        case: each,
        requests: { answered: perSecond * 5, perSecond, p50Ms: p99Ms / 2, p99Ms, errors: index },
        mbitPerSecond: perSecond / 5,
        busy: { requests: 1, transfer: each.path === 'ipvs' ? 1 : 0.8 + index / 10 },
      };
    }),
  ).flat();
}

describe('summarize', () => {
  it('takes medians of the rounds, and of the ratios of each round', () => {
    expect(summarize('6.1.0-1-amd64', 5, measured(3)).cases[3]).toEqual({
      path: 'ipvs-bpf',
      frontend: 'ClusterIP',
      requestsPerSecond: { median: 4860, spread: 1080 },
      p50Ms: { median: expect.closeTo(0.617), spread: expect.closeTo(0.139) },
      p99Ms: { median: expect.closeTo(1.235), spread: expect.closeTo(0.278) },
      answered: 72_900,
      errors: 3,
      mbitPerSecond: { median: 972, spread: 216 },
      busy: 0.8,
      toNative: {
        requests: expect.closeTo(1.8),
        requestsOfProcessor: expect.closeTo(1.8),
        p99: expect.closeTo(0.556),
        mbit: expect.closeTo(1.8),
        mbitOfProcessor: expect.closeTo(2),
      },
      toRouted: {
        requests: expect.closeTo(0.9),
        requestsOfProcessor: expect.closeTo(0.9),
        p99: expect.closeTo(1.111),
        mbit: expect.closeTo(0.9),
        mbitOfProcessor: expect.closeTo(0.9),
      },
    });
  });

  it('compares what was measured in one round, and not medians of all', () => {
    // The machine is slower by half while the second and third round have had their native path.
    const all = measured(3).map((one) =>
      (one.round === 2 && one.case.path === 'ipvs-bpf') || one.round === 3
        ? { ...one, requests: { ...one.requests, perSecond: one.requests.perSecond / 2 } }
        : one,
    );
    expect(summarize('6.1.0-1-amd64', 5, all).cases[3]?.toNative?.requests).toBeCloseTo(1.8);
  });

  it.each([0, 2])('refuses a case that is missing in a round of %i', (rounds) => {
    const all = measured(rounds).slice(0, -1);
    expect(() => summarize('6.1.0-1-amd64', 5, all)).toThrow(/measured \d times in \d rounds/);
  });
});

describe('idleCases', () => {
  it('names those of which the director had time left', () => {
    const all = measured(2).map((one) => ({
      ...one,
      busy: { requests: one.round === 2 && one.case === native ? 0.89 : 0.9, transfer: 1 },
    }));
    expect(idleCases(summarize('6.1.0-1-amd64', 5, all))).toEqual(['ipvs ClusterIP']);
  });
});

describe('table', () => {
  it('shows figures, then ratios', () => {
    expect(table(summarize('6.1.0-1-amd64', 5, measured(2))).split('\n')).toEqual([
      'Linux 6.1.0-1-amd64, rounds: 2, 5 s each measurement',
      'path                requests/s  spread  p50 ms  p99 ms  errors  Mbit/s  spread   busy',
      'routed                    5400     600    0.50    1.00       1    1080     120   80 %',
      'ipvs ClusterIP            2700     300    1.00    2.00       1     540      60  100 %',
      'ipvs NodePort             2700     300    1.00    2.00       1     540      60  100 %',
      'ipvs-bpf ClusterIP        4860     540    0.56    1.11       1     972     108   80 %',
      'ipvs-bpf NodePort         4860     540    0.56    1.11       1     972     108   80 %',
      '',
      'ratio                                requests/s  of processor   p99  Mbit/s  of processor',
      'ipvs ClusterIP / routed                    0.50          0.50  2.00    0.50          0.40',
      'ipvs NodePort / routed                     0.50          0.50  2.00    0.50          0.40',
      'ipvs-bpf ClusterIP / ipvs ClusterIP        1.80          1.80  0.56    1.80          2.00',
      'ipvs-bpf ClusterIP / routed                0.90          0.90  1.11    0.90          0.90',
      'ipvs-bpf NodePort / ipvs NodePort          1.80          1.80  0.56    1.80          2.00',
      'ipvs-bpf NodePort / routed                 0.90          0.90  1.11    0.90          0.90',
    ]);
  });
});
