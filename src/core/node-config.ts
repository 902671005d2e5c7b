// SPDX-License-Identifier: Apache-2.0
/** From an unknown document to a NodeConfig that holds in itself: schema, defaults, and the rules between fields. */
import { NODE_CONFIG_SCHEMA } from '../api/generated/node-config-schema.ts';
import type { NodeConfig } from '../api/generated/node-config-types.ts';
import { validateNodeConfig } from '../api/generated/validate-node-config.ts';
import { type Problem, type SchemaError, schemaProblems } from '../api/problems.ts';
import { canonicalAddress, canonicalPrefix } from './abi.ts';
import { isMapped, unmapped } from './addresses.ts';

export type ParsedNodeConfig =
  | { readonly ok: true; readonly config: NodeConfig }
  | { readonly ok: false; readonly problems: readonly Problem[] };

/** ajv's validators carry their errors as a property. */
type Validator = ((document: unknown) => boolean) & { errors?: readonly SchemaError[] | null };

/** True if the schema found fault with this field or anything below it. */
type IsBroken = (path: string) => boolean;

/** Checks everything, fills in defaults, and brings addresses and prefixes to canonical form. */
export function parseNodeConfig(document: unknown): ParsedNodeConfig {
  const filled: unknown = structuredClone(document);
  const validate = validateNodeConfig as Validator;
  const schemaFaults = validate(filled)
    ? []
    : schemaProblems(validate.errors ?? [], NODE_CONFIG_SCHEMA, document);
  if (schemaFaults.some(({ path }) => path === '')) return { ok: false, problems: schemaFaults };
  const broken: IsBroken = (path) =>
    schemaFaults.some(
      (fault) =>
        fault.path === path || (/^[.[]/.test(fault.path.slice(path.length)) && fault.path.startsWith(path)),
    );
  const config = filled as NodeConfig;
  const problems = [...schemaFaults, ...ruleProblems(config, document as NodeConfig, broken)];
  return problems.length > 0 ? { ok: false, problems } : { ok: true, config: canonical(config) };
}

/** The rules between fields; each looks only at what is well-formed, so that all problems come at once. */
function ruleProblems(config: NodeConfig, document: NodeConfig, broken: IsBroken): Problem[] {
  return [
    ...(broken('services') || broken('mode') ? [] : serviceProblems(config, document)),
    ...virtualServerProblems(config, broken),
    ...(broken('snat') ? [] : snatProblems(config)),
    ...(broken('datapath.interfaces') || (broken('datapath') && !isObject(config.datapath))
      ? []
      : interfaceProblems(config)),
    ...(broken('module') ? [] : moduleProblems(config)),
  ];
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null;
}

function serviceProblems(config: NodeConfig, document: NodeConfig): Problem[] {
  const { all, virtualServers } = config.services;
  if (all && virtualServers.length > 0) {
    const accepted = 'must be false or unset when services.virtualServers lists virtual servers';
    return [{ path: 'services.all', found: all, accepted }];
  }
  if (all || 'virtualServers' in document.services || config.mode === 'Disabled') return [];
  return [
    { path: 'services', found: document.services, accepted: 'must list virtualServers or say all: true' },
  ];
}

function virtualServerProblems(config: NodeConfig, broken: IsBroken): Problem[] {
  if (!isObject(config.services) || !Array.isArray(config.services.virtualServers)) return [];
  const problems: Problem[] = [];
  const seen = new Map<string, number>();
  for (const [i, server] of config.services.virtualServers.entries()) {
    const path = `services.virtualServers[${i}]`;
    if (broken(path)) continue;
    const address = tryTo(() => canonicalAddress(server.address));
    if (address === undefined || address === '0.0.0.0' || address === '::') {
      const accepted = 'must be an IPv4 or IPv6 address such as 198.51.100.10 or 2001:db8::10';
      problems.push({ path: `${path}.address`, found: server.address, accepted });
      continue;
    }
    if (isMapped(address)) {
      const accepted = `must be ${unmapped(address)}, if that is meant: an IPv6 address cannot hold an IPv4 one`;
      problems.push({ path: `${path}.address`, found: server.address, accepted });
      continue;
    }
    const key = `${server.protocol} ${address} ${server.port}`;
    const first = seen.get(key);
    if (first !== undefined) {
      const accepted = `must differ from services.virtualServers[${first}]: address, port and protocol are the same`;
      problems.push({ path, found: server, accepted });
    }
    seen.set(key, first ?? i);
  }
  return problems;
}

function snatProblems(config: NodeConfig): Problem[] {
  return config.snat.clusterCIDRs.flatMap((prefix, i) => {
    const path = `snat.clusterCIDRs[${i}]`;
    const canonicalForm = tryTo(() => canonicalPrefix(prefix));
    if (canonicalForm === undefined) {
      return [{ path, found: prefix, accepted: 'must be a prefix such as 10.0.0.0/8 or fd00::/8' }];
    }
    const [address = '', length = ''] = prefix.split('/');
    if (canonicalForm === `${canonicalAddress(address)}/${Number(length)}`) return [];
    return [{ path, found: prefix, accepted: `must have no host bits; the network is ${canonicalForm}` }];
  });
}

function interfaceProblems(config: NodeConfig): Problem[] {
  const { autoDetect, include, exclude } = config.datapath.interfaces;
  const named = (field: string, names: readonly string[]) =>
    names.flatMap((name, i) =>
      /^[^\s/:]+$/.test(name) && name !== '.' && name !== '..'
        ? []
        : [
            {
              path: `datapath.interfaces.${field}[${i}]`,
              found: name,
              accepted: 'must be the name of an interface, without spaces, "/" or ":"; * and ? are wildcards',
            },
          ],
    );
  const problems: Problem[] = [...named('include', include), ...named('exclude', exclude)];
  if (autoDetect === 'Disabled' && include.length === 0) {
    const accepted = 'must name at least one interface when autoDetect is Disabled';
    problems.push({ path: 'datapath.interfaces.include', found: include, accepted });
  }
  return problems;
}

function moduleProblems(config: NodeConfig): Problem[] {
  const { path } = config.module;
  if (path === undefined || path.startsWith('/')) return [];
  return [{ path: 'module.path', found: path, accepted: 'must be an absolute path, from "/"' }];
}

function canonical(config: NodeConfig): NodeConfig {
  const virtualServers = config.services.virtualServers.map((server) => ({
    ...server,
    address: canonicalAddress(server.address),
  }));
  const clusterCIDRs = [...new Set(config.snat.clusterCIDRs.map(canonicalPrefix))].sort();
  return {
    ...config,
    services: { ...config.services, virtualServers },
    snat: { ...config.snat, clusterCIDRs },
  };
}

/** The value, or undefined where the address helpers throw RangeError. */
function tryTo<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}
