// SPDX-License-Identifier: Apache-2.0
/** The suite's own JSON report; pure. */

/** A test as the suite lists it. */
export interface ListedTest {
  /** Full name: its groups' and its own text with the labels, as the suite's filters see it. */
  readonly name: string;
  /** Must have the cluster for itself. */
  readonly serial: boolean;
}

/** What became of one test. `broken`: the suite around it failed, or it ended without a report. */
export interface Outcome {
  readonly state: 'passed' | 'failed' | 'skipped' | 'timedout' | 'broken';
  readonly seconds: number;
  /** Why it did not pass, in one line; empty if it did. */
  readonly message: string;
  /** Runs that it took, 1 or more. */
  readonly attempts: number;
}

interface SpecReport {
  readonly ContainerHierarchyTexts: readonly string[] | null;
  readonly LeafNodeType: string;
  readonly LeafNodeText: string;
  readonly State: string;
  /** In nanoseconds. */
  readonly RunTime: number;
  readonly IsSerial?: boolean;
  readonly Failure?: { readonly Message?: string };
}

type Report = readonly { readonly SpecReports: readonly SpecReport[] | null }[];

const states: Readonly<Record<string, Outcome['state']>> = {
  passed: 'passed',
  skipped: 'skipped',
  pending: 'skipped',
  failed: 'failed',
  panicked: 'failed',
  timedout: 'timedout',
  interrupted: 'timedout',
  aborted: 'broken',
};

/** All tests of a report, of a dry run for instance. */
export function listedTests(text: string): ListedTest[] {
  return specsOf(text)
    .filter(({ LeafNodeType }) => LeafNodeType === 'It')
    .map((spec) => ({ name: fullName(spec), serial: spec.IsSerial === true }));
}

/** The outcome of the one test that a run was for. */
export function outcomeOf(text: string, name: string): Outcome {
  const specs = specsOf(text);
  const spec = specs.find((each) => each.LeafNodeType === 'It' && fullName(each) === name);
  const state = spec === undefined ? 'skipped' : (states[spec.State] ?? 'broken');
  const around = specs.find(
    (each) => each.LeafNodeType !== 'It' && (states[each.State] ?? 'broken') === 'failed',
  );
  if (around !== undefined && (state === 'passed' || state === 'skipped')) {
    return broken(`${around.LeafNodeType}: ${oneLine(around.Failure?.Message)}`);
  }
  if (spec === undefined) return broken('the report does not have the test');
  return {
    state,
    seconds: Math.round(spec.RunTime / 1e9),
    message: state === 'passed' ? '' : oneLine(spec.Failure?.Message),
    attempts: 1,
  };
}

export function broken(message: string, seconds = 0): Outcome {
  return { state: 'broken', seconds, message, attempts: 1 };
}

/** Identifies a run of the suite; the namespaces that it makes have it as label e2e-run. */
export function runIdIn(log: string): string | undefined {
  return /Starting e2e run \\?"([0-9a-f-]{36})\\?"/.exec(log)?.[1];
}

function specsOf(text: string): readonly SpecReport[] {
  return (JSON.parse(text) as Report).flatMap(({ SpecReports }) => SpecReports ?? []);
}

function fullName(spec: SpecReport): string {
  return [...(spec.ContainerHierarchyTexts ?? []), spec.LeafNodeText].join(' ');
}

function oneLine(text = ''): string {
  const line = text.replace(/\s+/g, ' ').trim();
  return line.length > 200 ? `${line.slice(0, 199)}…` : line;
}
