// SPDX-License-Identifier: Apache-2.0
/** Writes what is derived from the CRDs: schemas, types and validators, and the chart's copies of the CRDs. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Ajv } from 'ajv';
import standaloneCode from 'ajv/dist/standalone/index.js';
import { compile } from 'json-schema-to-typescript';
import { parse } from 'yaml';
import {
  CRD_FILES,
  type CrdKind,
  differingDefinitions,
  nodeConfigSchema,
  policySpecSchema,
  resourceSchema,
  type Schema,
} from '../src/api/schema.ts';

const KINDS = Object.entries(CRD_FILES) as [CrdKind, string][];
const HEADER = `// SPDX-License-Identifier: Apache-2.0
// Written by "npm run generate" from crds/ and src/api/schema.ts.
`;

/** Path below the checkout → content, for every generated file. */
export async function generate(root: string): Promise<ReadonlyMap<string, string>> {
  const sources = KINDS.map(
    ([kind, file]) => [kind, file, readFileSync(join(root, 'crds', file), 'utf8')] as const,
  );
  const crds = Object.fromEntries(sources.map(([kind, , text]) => [kind, parse(text)])) as Record<
    CrdKind,
    unknown
  >;
  const differing = differingDefinitions(crds.IpvsBpfPolicy, crds.IpvsBpfNode);
  if (differing.length > 0) {
    throw new Error(`${differing.join(', ')}: IpvsBpfPolicy and IpvsBpfNode must define the same`);
  }
  const config = nodeConfigSchema(policySpecSchema(crds.IpvsBpfPolicy));
  const resources = KINDS.map(([kind]) => [kind, resourceSchema(crds[kind], kind)] as const);
  return new Map([
    ...sources.map(([, file, text]): [string, string] => [`charts/ipvs-bpf/files/${file}`, text]),
    [
      'src/api/generated/node-config-schema.ts',
      `${HEADER}export const NODE_CONFIG_SCHEMA = ${JSON.stringify(config, undefined, 2)};\n`,
    ],
    ['src/api/generated/node-config-types.ts', await typesSource([['NodeConfig', config]])],
    ['src/api/generated/validate-node-config.ts', validatorSource([['NodeConfig', config]])],
    ['src/api/generated/resource-types.ts', await typesSource(resources)],
  ]);
}

async function typesSource(schemas: readonly (readonly [string, Schema])[]): Promise<string> {
  const parts = await Promise.all(
    schemas.map(([name, schema]) =>
      compile(withDefaultsRequired(schema) as object, name, {
        bannerComment: '',
        ignoreMinAndMaxItems: true,
        style: { singleQuote: true, printWidth: 110 },
      }),
    ),
  );
  return `${HEADER}\n${parts.map((part) => part.trimStart()).join('\n')}`;
}

/** The validator as source, because loading and running ajv takes longer than all the rest of a command. */
function validatorSource(schemas: readonly (readonly [string, Schema])[]): string {
  const ajv = new Ajv({
    strict: true,
    strictTypes: false,
    allErrors: true,
    useDefaults: true,
    allowUnionTypes: true,
    // Lengths in UTF-16 units: every limited field is ASCII by its other rules, and the code needs no import.
    unicode: false,
    messages: false,
    code: { source: true, esm: true },
    logger: false,
  });
  for (const [name, schema] of schemas) ajv.addSchema(schema, name);
  const code = standaloneCode.default(
    ajv,
    Object.fromEntries(schemas.map(([name]) => [`validate${name}`, name])),
  );
  if (code.includes('require(')) throw new Error('the validator must not import anything');
  return `${HEADER}// @ts-nocheck\n${code.replace('"use strict";', '')}\n`;
}

/** What parsing makes of a config: a field with a default is always there. */
function withDefaultsRequired(schema: Schema): Schema {
  const properties = Object.entries(schema.properties ?? {});
  const filled = properties.filter(([, property]) => property.default !== undefined).map(([name]) => name);
  return {
    ...schema,
    ...(schema.type === 'object' ? { required: [...new Set([...(schema.required ?? []), ...filled])] } : {}),
    ...(schema.items === undefined ? {} : { items: withDefaultsRequired(schema.items) }),
    ...(schema.properties === undefined
      ? {}
      : {
          properties: Object.fromEntries(
            properties.map(([name, value]) => [name, withDefaultsRequired(value)]),
          ),
        }),
  };
}

if (import.meta.main) {
  const root = join(dirname(fileURLToPath(import.meta.url)), '..');
  for (const [path, content] of await generate(root)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
    process.stdout.write(`${path}\n`);
  }
}
