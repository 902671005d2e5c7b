// SPDX-License-Identifier: Apache-2.0
/** What is wrong with a config, in words: where, what was found, what is accepted. */
import type { Schema } from './schema.ts';

/** One thing that is wrong with a config. */
export interface Problem {
  /** "services.virtualServers[2].port"; empty for the config as a whole. */
  readonly path: string;
  /** What was found there; undefined if nothing was. */
  readonly found?: unknown;
  /** What is accepted instead: "must be ...". */
  readonly accepted: string;
}

/** An error as a validator that ajv compiled reports it. */
export interface SchemaError {
  readonly instancePath: string;
  readonly schemaPath: string;
  readonly keyword: string;
  readonly params: Readonly<Record<string, unknown>>;
}

/** "services.virtualServers[2].port: 70000: must be an integer from 1 to 65535" */
export function formatProblem(problem: Problem): string {
  const found = 'found' in problem ? [shorten(JSON.stringify(problem.found) ?? 'undefined')] : [];
  return [problem.path === '' ? 'config' : problem.path, ...found, problem.accepted].join(': ');
}

/** The problems behind a validator's errors, one a path, in the order of the document. */
export function schemaProblems(errors: readonly SchemaError[], schema: Schema, document: unknown): Problem[] {
  const problems = new Map<string, Problem>();
  for (const error of errors) {
    const problem = schemaProblem(error, schema, document);
    if (!problems.has(problem.path)) problems.set(problem.path, problem);
  }
  return [...problems.values()];
}

function schemaProblem(error: SchemaError, root: Schema, document: unknown): Problem {
  const pointer = pointerParts(error.instancePath);
  const parent = schemaAt(root, pointer);
  if (error.keyword === 'required') {
    const name = String(error.params.missingProperty);
    return {
      path: pathOf([...pointer, name]),
      accepted: `is required and ${describe(parent.properties?.[name])}`,
    };
  }
  if (error.keyword === 'additionalProperties') {
    const name = String(error.params.additionalProperty);
    const found = valueAt(document, [...pointer, name]);
    return { path: pathOf([...pointer, name]), found, accepted: unknownField(name, parent) };
  }
  return { path: pathOf(pointer), found: valueAt(document, pointer), accepted: describe(parent) };
}

function unknownField(name: string, parent: Schema): string {
  const known = Object.keys(parent.properties ?? {});
  const nearest = nearestName(name, known);
  return nearest === undefined
    ? `is not a field here; the fields are ${known.join(', ')}`
    : `is not a field here; did you mean ${nearest}?`;
}

/** The known name that `name` was probably meant to be, or undefined. */
export function nearestName(name: string, known: readonly string[]): string | undefined {
  const ranked = known
    .map((candidate) => ({ candidate, distance: editDistance(name.toLowerCase(), candidate.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance);
  const best = ranked[0];
  const limit = Math.max(2, Math.floor(name.length / 3));
  return best !== undefined && best.distance <= limit && best.distance < best.candidate.length
    ? best.candidate
    : undefined;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const replace = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replace, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/** What a schema accepts, as "must be ...". */
function describe(schema: Schema | undefined): string {
  if (schema === undefined) return 'must be another value';
  if (schema.enum !== undefined) {
    return `must be ${schema.enum.length > 1 ? 'one of ' : ''}${schema.enum.join(', ')}`;
  }
  switch (schema.type) {
    case 'integer':
      return `must be an integer${range(schema.minimum, schema.maximum)}`;
    case 'boolean':
      return 'must be true or false';
    case 'array':
      return `must be a list${schema.maxItems === undefined ? '' : ` of at most ${schema.maxItems} entries`}`;
    case 'object':
      return `must be an object with the fields ${Object.keys(schema.properties ?? {}).join(', ')}`;
    default:
      return `must be text${lengths(schema.minLength, schema.maxLength)}`;
  }
}

function range(minimum: unknown, maximum: unknown): string {
  return minimum === undefined || maximum === undefined ? '' : ` from ${minimum} to ${maximum}`;
}

function lengths(minimum: unknown, maximum: unknown): string {
  if (maximum === undefined) return '';
  return minimum === undefined
    ? ` of at most ${maximum} characters`
    : ` of ${minimum} to ${maximum} characters`;
}

function pointerParts(pointer: string): string[] {
  return pointer
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function pathOf(parts: readonly string[]): string {
  return parts.map((part, i) => (/^[0-9]+$/.test(part) ? `[${part}]` : i === 0 ? part : `.${part}`)).join('');
}

function schemaAt(root: Schema, parts: readonly string[]): Schema {
  let at: Schema = root;
  for (const part of parts) at = at.items ?? at.properties?.[part] ?? {};
  return at;
}

function valueAt(document: unknown, parts: readonly string[]): unknown {
  let at = document;
  for (const part of parts) at = (at as Record<string, unknown> | null | undefined)?.[part];
  return at;
}

function shorten(text: string): string {
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
