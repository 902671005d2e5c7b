// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { readAgentConfig } from '../../../../src/agent/kubernetes-command.ts';
import { CHECKS } from '../../../../src/core/preflight.ts';
import {
  CAVEATS,
  EVENT_REASONS,
  FAILURE_REASONS,
  NODE_CONDITIONS,
  POLICY_CONDITIONS,
  PROBLEM_REASONS,
  REJECT_REASONS,
  WAITING_REASONS,
} from '../../../../src/core/reasons.ts';
import { readOperatorConfig } from '../../../../src/operator/config.ts';

const page = readFileSync(new URL('../../../../docs/reference.md', import.meta.url), 'utf8');

/** The reasons in the tables below a heading, with what the page says about them. */
function documented(heading: string): ReadonlyMap<string, string> {
  const level = heading.split(' ')[0] ?? '';
  const start = page.indexOf(`\n${heading}\n`);
  expect(start, `docs/reference.md has a heading "${heading}"`).toBeGreaterThanOrEqual(0);
  const rest = page.slice(start + heading.length + 2);
  const end = rest.search(new RegExp(`^#{1,${level.length}} `, 'm'));
  const section = end < 0 ? rest : rest.slice(0, end);
  return new Map(
    [...section.matchAll(/^\| `(\w+)` \| (.+) \|$/gm)].map(([, name = '', text = '']) => [name, text]),
  );
}

/** The part of the page about one kind. */
function conditionsOf(kind: 'IpvsBpfPolicy' | 'IpvsBpfNode', type: string): ReadonlyMap<string, string> {
  const title = `\n## Conditions of an ${kind}\n`;
  const start = page.indexOf(title);
  expect(start).toBeGreaterThan(0);
  const rest = page.slice(start + title.length);
  const section = rest.slice(0, rest.search(/^## /m));
  const [, after = ''] = section.split(`### ${type}\n`);
  expect(after, `${kind} ${type}`).not.toBe('');
  const table = after.split(/^### /m)[0] ?? '';
  return new Map(
    [...table.matchAll(/^\| `(\w+)` \| (.+) \|$/gm)].map(([, name = '', text = '']) => [name, text]),
  );
}

describe('docs/reference.md', () => {
  const conditions = [
    ...Object.entries(POLICY_CONDITIONS).map(([type, reasons]) => ['IpvsBpfPolicy', type, reasons] as const),
    ...Object.entries(NODE_CONDITIONS).map(([type, reasons]) => ['IpvsBpfNode', type, reasons] as const),
  ];

  it.each(conditions)('%s: condition %s has all of its reasons and no others', (kind, type, reasons) => {
    const found = conditionsOf(kind, type);
    const expected = (['True', 'False', 'Unknown'] as const).flatMap((status) =>
      reasons[status].map((reason) => `${reason}: ${status}`),
    );
    expect([...found].map(([reason, text]) => `${reason}: ${text.split('.')[0]}`).sort()).toEqual(
      expected.sort(),
    );
  });

  it.each([
    ['## Rejected Services', REJECT_REASONS],
    ['## Checks of nodes', CHECKS],
    ['## Caveats of Services', CAVEATS],
    ['## Waiting nodes', WAITING_REASONS],
    ['## Problem nodes', PROBLEM_REASONS],
    ['## Failures of nodes', FAILURE_REASONS],
    ['## Events', [...EVENT_REASONS.Normal, ...EVENT_REASONS.Warning]],
  ])('%s has every reason and no others', (heading, reasons) => {
    expect([...documented(heading).keys()].sort()).toEqual([...reasons].sort());
  });

  it.each([
    ['### Of the operator', (environment: Environment) => readOperatorConfig(environment)],
    ['### Of the agent', (environment: Environment) => readAgentConfig(environment, '/')],
  ])('%s has every environment variable and no others', (heading, read) => {
    const known = knownVariables(read).filter((name) => name !== FOR_TESTS);
    expect([...documented(heading).keys()].sort()).toEqual(known.sort());
  });
});

type Environment = Readonly<Record<string, string>>;

/** A command that an agent's tests give it. */
const FOR_TESTS = 'IPVS_BPF_KILL_AT';

/** A variable that is not known is refused with the list of those that are. */
function knownVariables(read: (environment: Environment) => unknown): string[] {
  try {
    read({ IPVS_BPF_UNKNOWN: '' });
  } catch (error) {
    const list = / is not known; known are (.+)/.exec(error instanceof Error ? error.message : '')?.[1];
    return list?.split(', ') ?? [];
  }
  return [];
}
