// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { kubernetesProgram } from '../../cluster/go-modules.ts';
import { acceleratedConnections } from '../../conformance/counters.ts';
import { deleteNamespaces, everythingPolicy } from '../../conformance/policy.ts';
import { listedTests, type Outcome, outcomeOf, runIdIn } from '../../conformance/report.ts';
import { ResultsFile } from '../../conformance/results.ts';
import { defaultFocus, onlyTest, selectTests, shortName } from '../../conformance/selection.ts';
import { acceleratedTests, notPassed, reasons, regressions, resultTable } from '../../conformance/table.ts';

const nodePort =
  '[sig-network] Services should be able to create a functioning NodePort service [Conformance]';

function spec(changes: object = {}) {
  return {
    ContainerHierarchyTexts: ['[sig-network] Services'],
    LeafNodeType: 'It',
    LeafNodeText: 'should be able to create a functioning NodePort service [Conformance]',
    State: 'passed',
    RunTime: 31_600_000_000,
    ...changes,
  };
}

const beforeSuite = {
  ContainerHierarchyTexts: null,
  LeafNodeType: 'SynchronizedBeforeSuite',
  LeafNodeText: '',
  State: 'passed',
  RunTime: 1,
};

function report(...specs: object[]): string {
  return JSON.stringify([{ SuiteDescription: 'Kubernetes e2e suite', SpecReports: specs }]);
}

function outcome(state: Outcome['state'], changes: Partial<Outcome> = {}): Outcome {
  return { state, seconds: 30, message: state === 'passed' ? '' : 'why', attempts: 1, ...changes };
}

describe('a report of the suite', () => {
  it('lists tests by their full names', () => {
    const serial = spec({ LeafNodeText: 'should do SCTP [Serial]', IsSerial: true });
    expect(listedTests(report(beforeSuite, spec(), serial))).toEqual([
      { name: nodePort, serial: false },
      { name: '[sig-network] Services should do SCTP [Serial]', serial: true },
    ]);
    expect(listedTests('[{"SpecReports":null}]')).toEqual([]);
  });

  it('says that a test passed, and in which time', () => {
    const other = spec({ LeafNodeText: 'other', State: 'skipped', RunTime: 0 });
    expect(outcomeOf(report(beforeSuite, other, spec()), nodePort)).toEqual({
      state: 'passed',
      seconds: 32,
      message: '',
      attempts: 1,
    });
  });

  it.each([
    ['failed', 'failed'],
    ['panicked', 'failed'],
    ['timedout', 'timedout'],
    ['interrupted', 'timedout'],
    ['skipped', 'skipped'],
    ['pending', 'skipped'],
    ['aborted', 'broken'],
    ['something new', 'broken'],
  ])('takes %s as %s, with its message in a line', (State, state) => {
    const text = report(spec({ State, Failure: { Message: 'no\n  answer' } }));
    expect(outcomeOf(text, nodePort)).toMatchObject({ state, message: 'no answer' });
  });

  it('shortens long messages', () => {
    const text = report(spec({ State: 'failed', Failure: { Message: 'x'.repeat(500) } }));
    expect(outcomeOf(text, nodePort).message).toBe(`${'x'.repeat(199)}…`);
  });

  it('does not take a test for good when the suite around it failed', () => {
    const failed = { ...beforeSuite, State: 'failed', Failure: { Message: 'no nodes' } };
    const expected = { state: 'broken', message: 'SynchronizedBeforeSuite: no nodes' };
    expect(outcomeOf(report(failed, spec({ State: 'skipped' })), nodePort)).toMatchObject(expected);
    expect(outcomeOf(report(failed), nodePort)).toMatchObject(expected);
    expect(outcomeOf(report(spec(), { ...failed, LeafNodeType: 'AfterSuite' }), nodePort).state).toBe(
      'broken',
    );
  });

  it('does not take a missing test for good', () => {
    expect(outcomeOf(report(beforeSuite), nodePort).state).toBe('broken');
  });
});

it('a run of the suite is known by its log', () => {
  const id = '16b2f8a6-0d4e-4cf0-9a3c-5f6d0f9b5a51';
  expect(
    runIdIn(
      `I1124 e2e.go:109] "Starting e2e run" runID="x"\nI1124 Starting e2e run "${id}" on Ginkgo node 1`,
    ),
  ).toBe(id);
  expect(runIdIn('nothing')).toBeUndefined();
});

describe('the selection', () => {
  const named = (...names: string[]) => names.map((name) => ({ name, serial: false }));

  it('takes what is about Services and says why it leaves others out', () => {
    const tests = named(
      nodePort,
      '[sig-network] Conntrack should preserve UDP',
      '[sig-network] Networking Granular Checks: Services should function for pod-Service: sctp [Feature:SCTPConnectivity]',
      '[sig-network] [Feature:IPv6DualStack] should have ipv4 and ipv6 internal node ip',
      '[sig-network] Services should work after restarting kube-proxy [Disruptive]',
      '[sig-network] Services should have session affinity timeout work for NodePort service [LinuxOnly]',
      '[sig-network] Services should do it [Feature:Other]',
      '[sig-network] DNS should resolve',
      '[sig-apps] Deployment about [sig-network] nothing',
    );
    const { selected, excluded } = selectTests(tests, new RegExp(defaultFocus));
    expect(selected.map(({ name }) => shortName(name))).toEqual([
      'Conntrack should preserve UDP',
      'Networking Granular Checks: Services should function for pod-Service: sctp [Feature:SCTPConnectivity]',
      shortName(nodePort),
    ]);
    expect(excluded.map(({ reason }) => reason.split(' ').slice(0, 3).join(' '))).toEqual([
      'needs a feature',
      'hangs with plain',
      'restarts a component',
      'needs a dual-stack',
    ]);
  });

  it('takes those of two families on a cluster that has both', () => {
    const test = '[sig-network] [Feature:IPv6DualStack] Granular Checks: Services Secondary IP Family do it';
    expect(selectTests(named(test), new RegExp(defaultFocus), 'dual').selected).toHaveLength(1);
  });

  it('must not be empty', () => {
    expect(() => selectTests(named('a', 'b'), /c/)).toThrow('no test to run: 0 fit c');
    expect(() => selectTests(named('a [Disruptive]'), /a/)).toThrow('1 fit a, 1 are excluded');
  });

  it('names one test and none that begins like it', () => {
    const name = '[sig-network] Services a.b (hostNetwork: true) to Pod';
    const expression = new RegExp(onlyTest(name));
    expect(expression.test(`Kubernetes e2e suite ${name}`)).toBe(true);
    expect(expression.test(`Kubernetes e2e suite ${name} too`)).toBe(false);
    expect(expression.test(`Kubernetes e2e suite ${name.replace('a.b', 'axb')}`)).toBe(false);
  });

  it('shortens names for people', () => {
    expect(shortName('[sig-network] Services do it ')).toBe('Services do it');
  });
});

describe('the comparison', () => {
  const names = ['[sig-network] a', '[sig-network] b', '[sig-network] c'];
  const results = {
    kubernetes: '1.34.4',
    native: { '[sig-network] a': outcome('passed'), '[sig-network] b': outcome('passed', { attempts: 2 }) },
    accelerated: {
      '[sig-network] a': outcome('timedout', { seconds: 600 }),
      '[sig-network] b': outcome('passed'),
    },
  };

  it('is a table', () => {
    expect(resultTable(names, results).split('\n')).toEqual([
      'TEST    NATIVE                    ACCELERATED',
      'a       passed (30 s)             timedout (600 s)',
      'b       passed (30 s, attempt 2)  passed (30 s)',
      'c       -                         -',
      'passed  2 of 2                    1 of 2',
      '',
    ]);
    expect(reasons(names, results)).toEqual(['accelerated: a: timedout: why']);
  });

  it.each([
    ['passed', 'passed', false],
    ['passed', 'failed', true],
    ['passed', 'timedout', true],
    ['passed', 'broken', true],
    ['passed', 'skipped', true],
    ['failed', 'failed', false],
    ['skipped', 'skipped', false],
    [undefined, 'failed', true],
    [undefined, 'skipped', false],
    ['passed', undefined, false],
  ] as const)(
    'natively %s, accelerated %s: blames the accelerated path: %s',
    (native, accelerated, blamed) => {
      const of = (state: Outcome['state'] | undefined) => (state === undefined ? {} : { x: outcome(state) });
      const both = { kubernetes: '', native: of(native), accelerated: of(accelerated) };
      expect(regressions(['x'], both)).toEqual(blamed ? ['x'] : []);
    },
  );

  it('runs accelerated what passed natively, or all if that is not known', () => {
    const tests = names.map((name) => ({ name }));
    expect(acceleratedTests(tests, results)).toEqual([
      { name: '[sig-network] a' },
      { name: '[sig-network] b' },
    ]);
    expect(acceleratedTests(tests, { native: {} })).toEqual(tests);
  });

  it('goes on with those that were not run or did not pass', () => {
    const tests = names.map((name) => ({ name }));
    expect(notPassed(tests, results.accelerated)).toEqual([
      { name: '[sig-network] a' },
      { name: '[sig-network] c' },
    ]);
    expect(notPassed(tests, {})).toEqual(tests);
  });
});

describe('the results', () => {
  let directory = '';
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'ipvs-bpf-conformance-test-'));
  });
  afterEach(() => rm(directory, { recursive: true, force: true }));

  it('outlive the process', () => {
    const file = join(directory, 'new/results.json');
    const first = new ResultsFile(file, '1.34.4');
    first.record('native', 'a', outcome('passed'));
    first.record('native', 'b', outcome('failed'));
    first.record('accelerated', 'a', outcome('skipped'));
    const second = new ResultsFile(file, '1.34.4');
    second.forget('native', ['b']);
    expect(new ResultsFile(file, '1.34.4').results).toEqual({
      kubernetes: '1.34.4',
      native: { a: outcome('passed') },
      accelerated: { a: outcome('skipped') },
    });
    expect(new ResultsFile(file, '1.35.4').results.native).toEqual({});
  });
});

describe('what the tests leave behind', () => {
  it('is deleted', async () => {
    const calls: string[] = [];
    const faults = await deleteNamespaces(
      async (args) => {
        calls.push(args.join(' '));
        return '';
      },
      ['a', 'b'],
    );
    expect(faults).toEqual([]);
    expect(calls).toEqual([expect.stringMatching(/^delete namespace -l e2e-run in \(a,b\) /)]);
  });

  it('is a fault if it stays, and no reason to show no results', async () => {
    const faults = await deleteNamespaces(() => Promise.reject(new Error('timed out')), ['a']);
    expect(faults).toEqual(['namespaces of the tests stay: timed out']);
  });
});

describe('the accelerated half', () => {
  it('takes every Service on every node', () => {
    expect(everythingPolicy()).toMatchObject({
      spec: { mode: 'Enabled', nodeSelector: {}, services: { selector: {} } },
    });
  });

  it('counts connections of all processors', () => {
    const entry = (key: string, ...values: string[][]) => ({
      key: [key, '0x00', '0x00', '0x00'],
      values: values.map((value, cpu) => ({ cpu, value })),
    });
    const bytes = (first: string, second: string) => [first, second, ...Array(6).fill('0x00')];
    const dump = [
      entry('0x00', bytes('0x09', '0x00')),
      entry('0x06', bytes('0x02', '0x01'), bytes('0x03', '0x00')),
    ];
    expect(acceleratedConnections(JSON.stringify(dump))).toBe(258 + 3);
    expect(() => acceleratedConnections('[]')).toThrow('no entry 6');
  });
});

it('the suite is built from the tests of its package', () => {
  expect(kubernetesProgram('e2e.test', '1.34.4')).toMatchObject({
    package: 'k8s.io/kubernetes/test/e2e',
    tests: true,
  });
  expect(kubernetesProgram('kubelet', '1.34.4').tests).toBeUndefined();
});
