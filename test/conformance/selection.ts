// SPDX-License-Identifier: Apache-2.0
/** Which tests of the upstream suite are run; pure. */
import type { IpFamilies } from '../cluster/ip-families.ts';
import type { ListedTest } from './report.ts';

/** What the suite has about Services, as a regular expression on full names. */
export const defaultFocus = String.raw`\[sig-network\] (\[Feature:IPv6DualStack\]|Services|Conntrack|Networking Granular Checks)`;

interface Exclusion {
  readonly pattern: RegExp;
  readonly reason: string;
}

/** Tests that cannot pass on the test cluster whatever forwards its packets, in the order in which they count. */
function exclusions(families: IpFamilies): readonly Exclusion[] {
  const dualStack: readonly Exclusion[] = [
    {
      pattern: /\[Feature:IPv6DualStack\]/,
      reason: 'needs a dual-stack cluster: npm run cluster -- up --ip-families dual',
    },
  ];
  return [
    {
      pattern: /\[Disruptive\]/,
      reason: 'restarts a component that it expects to be a pod; here components are plain processes',
    },
    ...(families === 'dual' ? [] : dualStack),
    {
      pattern: /\[Feature:(?!IPv6DualStack|SCTPConnectivity)/,
      reason: 'needs a feature that the cluster does not have',
    },
    {
      pattern: /session affinity timeout/,
      reason: 'hangs with plain ipvs (kubernetes/kubernetes#89358)',
    },
  ];
}

export interface Selection {
  readonly selected: readonly ListedTest[];
  readonly excluded: readonly { readonly name: string; readonly reason: string }[];
}

/**
 * Divides the tests that fit the focus, ordered by name.
 * @throws Error when no test is left
 */
export function selectTests(
  tests: readonly ListedTest[],
  focus: RegExp,
  families: IpFamilies = 'ipv4',
): Selection {
  const excluding = exclusions(families);
  const fitting = tests
    .filter(({ name }) => focus.test(name))
    .sort((a, b) => (a.name < b.name ? -1 : Number(a.name > b.name)));
  const reasonOf = ({ name }: ListedTest) => excluding.find(({ pattern }) => pattern.test(name))?.reason;
  const selected = fitting.filter((test) => reasonOf(test) === undefined);
  const excluded = fitting.flatMap((test) => {
    const reason = reasonOf(test);
    return reason === undefined ? [] : [{ name: test.name, reason }];
  });
  if (selected.length === 0) {
    throw new Error(`no test to run: ${fitting.length} fit ${focus.source}, ${excluded.length} are excluded`);
  }
  return { selected, excluded };
}

/** A regular expression for the suite that fits this test only. The suite matches it with what it calls itself before the name. */
export function onlyTest(name: string): string {
  return `${name.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')}$`;
}

/** A test's name without what all have in common. */
export function shortName(name: string): string {
  return name.replace(/^\[sig-network\] /, '').trim();
}
