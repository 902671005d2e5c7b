// SPDX-License-Identifier: Apache-2.0
/** Label selectors as Kubernetes has them. */
import type { LabelSelectorLike } from './cluster-facts.ts';

type Labels = Readonly<Record<string, string>>;

/** True if the labels are selected; an empty selector selects everything, an unset one nothing. */
export function selects(selector: LabelSelectorLike | undefined, labels: Labels | undefined): boolean {
  if (selector === undefined) return false;
  const has = (key: string): boolean => labels !== undefined && Object.hasOwn(labels, key);
  const exact = Object.entries(selector.matchLabels ?? {}).every(
    ([key, value]) => has(key) && labels?.[key] === value,
  );
  return (
    exact &&
    (selector.matchExpressions ?? []).every(({ key, operator, values = [] }) => {
      const listed = has(key) && values.includes(labels?.[key] ?? '');
      switch (operator) {
        case 'In':
          return listed;
        case 'NotIn':
          return !listed;
        case 'Exists':
          return has(key);
        case 'DoesNotExist':
          return !has(key);
        default:
          return false;
      }
    })
  );
}

/**
 * True unless nothing that has all of these labels can be selected: for labels of which there may be more than
 * are known.
 */
export function maySelect(selector: LabelSelectorLike | undefined, known: Labels): boolean {
  if (selector === undefined) return true;
  const has = (key: string): boolean => Object.hasOwn(known, key);
  const exact = Object.entries(selector.matchLabels ?? {}).every(
    ([key, value]) => !has(key) || known[key] === value,
  );
  return (
    exact &&
    (selector.matchExpressions ?? []).every(({ key, operator, values = [] }) => {
      if (!has(key)) return true;
      const listed = values.includes(known[key] ?? '');
      if (operator === 'In') return listed;
      if (operator === 'NotIn') return !listed;
      return operator !== 'DoesNotExist';
    })
  );
}
