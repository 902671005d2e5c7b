// SPDX-License-Identifier: Apache-2.0
/** YAML in a file of its own: it is imported only for configs that are not JSON. */
import { parseDocument } from 'yaml';

export type YamlResult =
  | { readonly ok: true; readonly document: unknown }
  | { readonly ok: false; readonly errors: readonly string[] };

/** Errors have line and column. */
export function parseYaml(text: string): YamlResult {
  const document = parseDocument(text, { prettyErrors: true });
  if (document.errors.length === 0) return { ok: true, document: document.toJS() };
  return { ok: false, errors: document.errors.map(({ message }) => message.split('\n')[0] ?? message) };
}
