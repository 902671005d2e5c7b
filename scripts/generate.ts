// SPDX-License-Identifier: Apache-2.0
/** Writes what is derived from the CRD: NodeConfig's schema and types, and the chart's copy of the CRD. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Ajv } from 'ajv';
import standaloneCode from 'ajv/dist/standalone/index.js';
import { compile } from 'json-schema-to-typescript';
import { parse } from 'yaml';
import { nodeConfigSchema, policySpecSchema, type Schema } from '../src/api/schema.ts';

const CRD = 'ipvs-bpf.io_ipvsbpfpolicies.yaml';
const HEADER = `// SPDX-License-Identifier: Apache-2.0
// Written by "npm run generate" from crds/${CRD} and src/api/schema.ts.
`;

/** Path below the checkout → content, for every generated file. */
export async function generate(root: string): Promise<ReadonlyMap<string, string>> {
  const crd = readFileSync(join(root, 'crds', CRD), 'utf8');
  const schema = nodeConfigSchema(policySpecSchema(parse(crd)));
  const types = await compile(withDefaultsRequired(schema) as object, 'NodeConfig', {
    bannerComment: HEADER,
    ignoreMinAndMaxItems: true,
    style: { singleQuote: true, printWidth: 110 },
  });
  return new Map([
    [`charts/ipvs-bpf/files/${CRD}`, crd],
    [
      'src/api/generated/node-config-schema.ts',
      `${HEADER}export const NODE_CONFIG_SCHEMA = ${JSON.stringify(schema, undefined, 2)};\n`,
    ],
    ['src/api/generated/node-config-types.ts', types],
    ['src/api/generated/validate-node-config.ts', validatorSource(schema)],
  ]);
}

/** The validator as source, because loading and running ajv takes longer than all the rest of a command. */
function validatorSource(schema: Schema): string {
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
  const code = standaloneCode.default(ajv, {
    validateNodeConfig: ajv.addSchema(schema, 'NodeConfig') && 'NodeConfig',
  });
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
