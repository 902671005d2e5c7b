// SPDX-License-Identifier: Apache-2.0
/** The chart's values: values.yaml, its schema and the table of its README say the same. */
import { readFileSync } from 'node:fs';
import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { isMap, parse, parseDocument, type Scalar } from 'yaml';

const chart = new URL('../../../charts/ipvs-bpf/', import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, chart), 'utf8');

interface Schema {
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: unknown;
}

const text = read('values.yaml');
const values = parse(text) as Readonly<Record<string, unknown>>;
const schema = JSON.parse(read('values.schema.json')) as Schema & { readonly $schema: string };

interface Leaf {
  readonly path: string;
  readonly schema: Schema;
  readonly value: unknown;
}

/** In the order of the schema. */
function leaves({ properties = {} }: Schema, value: unknown, above = ''): readonly Leaf[] {
  return Object.entries(properties).flatMap(([name, property]) => {
    const path = `${above}${name}`;
    const own = (value as Readonly<Record<string, unknown>> | undefined)?.[name];
    return property.properties === undefined
      ? [{ path, schema: property, value: own }]
      : leaves(property, own, `${path}.`);
  });
}

/** Paths of values.yaml down to where the schema ends. */
function paths(value: unknown, at: Schema | undefined, above = ''): readonly string[] {
  if (at?.properties === undefined || typeof value !== 'object' || value === null) return [above];
  return Object.entries(value).flatMap(([name, own]) =>
    paths(own, at.properties?.[name], above === '' ? name : `${above}.${name}`),
  );
}

const all = leaves(schema, values).filter(({ path }) => path !== 'global');

describe('values.yaml', () => {
  it('has every value of the schema and no other', () => {
    expect([...paths(values, schema)].sort()).toEqual(all.map(({ path }) => path).sort());
  });

  it('is what the schema accepts', () => {
    const { $schema: _, ...rest } = schema;
    const ajv = new Ajv({ allErrors: true, strict: true, strictRequired: false, allowUnionTypes: true });
    const validate = ajv.compile(rest);
    validate(values);
    expect(validate.errors).toBeNull();
  });

  it('explains every value in the line above it', () => {
    const unexplained: string[] = [];
    const visit = (node: unknown, at: Schema | undefined, above: string): void => {
      if (!isMap<Scalar<string>>(node)) return;
      for (const { key, value } of node.items) {
        const property = at?.properties?.[key.value];
        const path = `${above}${key.value}`;
        if (property?.properties !== undefined) visit(value, property, `${path}.`);
        else if (!/\n *#[^\n]*\n *$/.test(text.slice(0, key.range?.[0]))) unexplained.push(path);
      }
    };
    visit(parseDocument(text).contents, schema, '');
    expect(unexplained).toEqual([]);
  });
});

describe('values.schema.json', () => {
  it('describes every value and refuses unknown keys at each level', () => {
    const open: string[] = [];
    const visit = (at: Schema, path: string): void => {
      if (at.description === undefined && path !== '') open.push(`${path}: no description`);
      if (at.properties === undefined) return;
      if (at.additionalProperties !== false) open.push(`${path}: takes unknown keys`);
      for (const [name, property] of Object.entries(at.properties)) visit(property, `${path}.${name}`);
    };
    visit(schema, '');
    expect(open).toEqual([]);
  });
});

describe('README.md', () => {
  it('has each value with its default and its meaning', () => {
    const rows = [...read('README.md').matchAll(/^\| `\w+(\.\w+)*` \| .* \|$/gm)].map(([row]) => row);
    const expected = all.map(
      ({ path, schema: { description }, value }) =>
        `| \`${path}\` | \`${JSON.stringify(value)}\` | ${description} |`,
    );
    expect(rows).toEqual(expected);
  });
});
