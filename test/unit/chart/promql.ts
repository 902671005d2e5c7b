// SPDX-License-Identifier: Apache-2.0
/** What a PromQL expression reads, by Prometheus' own grammar. */
import { parser } from '@prometheus-io/lezer-promql';

export interface Selector {
  readonly metric: string;
  readonly matchers: readonly { readonly label: string; readonly value: string }[];
}

export interface Expression {
  readonly selectors: readonly Selector[];
  /** Labels of by, without, on, ignoring, group_left, group_right. */
  readonly groupings: readonly string[];
}

type Node = ReturnType<typeof parser.parse>['topNode'];

/** @throws Error where it is not PromQL */
export function parsePromql(expression: string): Expression {
  const tree = parser.parse(expression);
  const selectors: Selector[] = [];
  const groupings: string[] = [];
  const text = ({ from, to }: { readonly from: number; readonly to: number }) => expression.slice(from, to);
  tree.iterate({
    enter: ({ node, type }) => {
      if (type.isError) {
        throw new Error(`no PromQL at character ${node.from + 1}: ${expression}`);
      }
      if (type.name === 'VectorSelector') selectors.push(selectorOf(node, text));
      if (type.name === 'GroupingLabels') {
        groupings.push(...node.getChildren('LabelName').map(text));
      }
    },
  });
  return { selectors, groupings };
}

function selectorOf(node: Node, text: (at: Node) => string): Selector {
  const name = node.getChild('Identifier');
  if (name === null) throw new Error(`a selector without a metric: ${text(node)}`);
  const matchers = node.getChild('LabelMatchers')?.getChildren('UnquotedLabelMatcher') ?? [];
  return {
    metric: text(name),
    matchers: matchers.map((matcher) => {
      const [label, value] = [matcher.getChild('LabelName'), matcher.getChild('StringLiteral')];
      if (label === null || value === null) throw new Error(`no matcher: ${text(matcher)}`);
      return { label: text(label), value: text(value).slice(1, -1) };
    }),
  };
}
