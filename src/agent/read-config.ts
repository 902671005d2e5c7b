// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import type { NodeConfig } from '../api/generated/node-config-types.ts';
import { formatProblem } from '../api/problems.ts';
import { parseNodeConfig } from '../core/node-config.ts';

/** The file cannot be read, or is not a valid NodeConfig; the message has every problem on a line of its own. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/** Reads a NodeConfig from YAML or JSON. Throws ConfigError. */
export async function readConfig(path: string): Promise<NodeConfig> {
  const parsed = parseNodeConfig(await readDocument(path));
  if (parsed.ok) return parsed.config;
  throw new ConfigError(
    [`${path} is not a valid NodeConfig:`, ...parsed.problems.map(formatProblem)].join('\n  '),
  );
}

async function readDocument(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw new ConfigError(`cannot read ${path}: ${error instanceof Error ? error.message : error}`, {
      cause: error,
    });
  }
  if (/^\s*\{/.test(text)) {
    // Most of such files are JSON; one that is not may still be YAML in braces.
    const json = parseJson(text);
    if (json !== undefined) return json;
  }
  const { parseYaml } = await import('./yaml.ts');
  const parsed = parseYaml(text);
  if (parsed.ok) return parsed.document;
  throw new ConfigError([`${path} is not valid YAML:`, ...parsed.errors].join('\n  '));
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
