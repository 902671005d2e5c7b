// SPDX-License-Identifier: Apache-2.0
/** From the CRDs' structural schemas to JSON schemas of each kind. Runs when code is generated, and in tests. */

/** A JSON schema (or a structural one), as far as this program looks into it. */
export interface Schema {
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly required?: readonly string[];
  readonly enum?: readonly (string | number | boolean)[];
  readonly anyOf?: readonly Schema[];
  readonly additionalProperties?: boolean | Schema;
  readonly [keyword: string]: unknown;
}

export const API_VERSION = 'ipvs-bpf.io/v1alpha1';

export type CrdKind = 'IpvsBpfPolicy' | 'IpvsBpfNode' | 'IpvsBpfServiceSlice';

/** The files in crds/. */
export const CRD_FILES: Readonly<Record<CrdKind, string>> = {
  IpvsBpfPolicy: 'ipvs-bpf.io_ipvsbpfpolicies.yaml',
  IpvsBpfNode: 'ipvs-bpf.io_ipvsbpfnodes.yaml',
  IpvsBpfServiceSlice: 'ipvs-bpf.io_ipvsbpfserviceslices.yaml',
};

/**
 * A Kubernetes structural schema as strict JSON schema: extensions become standard keywords or go, and fields that
 * are not listed are refused. Formats go too: what they say is the API server's to check.
 */
export function jsonSchema(structural: Schema): Schema {
  const result: Record<string, unknown> = {};
  for (const [keyword, value] of Object.entries(structural)) {
    if (keyword.startsWith('x-kubernetes-') || keyword === 'nullable' || keyword === 'format') continue;
    result[keyword] = value;
  }
  if (structural.items !== undefined) result.items = jsonSchema(structural.items);
  if (structural.properties !== undefined) result.properties = mapValues(structural.properties, jsonSchema);
  if (typeof structural.additionalProperties === 'object') {
    result.additionalProperties = jsonSchema(structural.additionalProperties);
  } else if (structural.type === 'object' && structural['x-kubernetes-preserve-unknown-fields'] !== true) {
    result.additionalProperties = false;
  }
  if (structural['x-kubernetes-int-or-string'] === true)
    result.anyOf = [{ type: 'integer' }, { type: 'string' }];
  if (structural.nullable === true && typeof structural.type === 'string') {
    result.type = [structural.type, 'null'];
  }
  return result;
}

/** The schema of IpvsBpfPolicy's spec in a CRD that was parsed from YAML. Throws if it is not there. */
export function policySpecSchema(crd: unknown): Schema {
  return schemaIn(crd, ['properties', 'spec']);
}

/** The schema of a whole object of this kind. Throws if the CRD has none. */
export function resourceSchema(crd: unknown, kind: CrdKind): Schema {
  const { properties, ...schema } = jsonSchema(schemaIn(crd, []));
  return {
    ...schema,
    required: ['apiVersion', 'kind', 'metadata', 'spec'],
    properties: {
      ...properties,
      apiVersion: { type: 'string', enum: [API_VERSION], description: 'The version of this format.' },
      kind: { type: 'string', enum: [kind], description: 'The kind of this object.' },
      metadata: METADATA,
    },
  };
}

/** The part of an object's metadata that this program reads. */
const METADATA: Schema = {
  type: 'object',
  description: 'Name, labels and what the API server keeps of every object.',
  required: ['name'],
  additionalProperties: true,
  properties: {
    name: { type: 'string', description: 'The name.' },
    uid: { type: 'string', description: 'Tells it from others that had the name before.' },
    generation: { type: 'integer', description: 'Counts the changes of spec.' },
    resourceVersion: { type: 'string', description: 'Changes with every write.' },
    creationTimestamp: { type: 'string', description: 'When it was made.' },
    deletionTimestamp: { type: 'string', description: 'When its deletion was asked for.' },
    finalizers: { type: 'array', items: { type: 'string' }, description: 'What hinders its deletion.' },
    labels: { type: 'object', additionalProperties: { type: 'string' }, description: 'Labels.' },
    annotations: { type: 'object', additionalProperties: { type: 'string' }, description: 'Annotations.' },
  },
};

/** The shared fields of spec that the two CRDs define in different ways. */
export function differingDefinitions(policyCrd: unknown, nodeCrd: unknown): readonly string[] {
  const of = (crd: unknown, path: string): string =>
    JSON.stringify(schemaIn(crd, ['properties', 'spec', 'properties', ...path.split(' ')]));
  return ['snat', 'ipvs', 'datapath', 'module properties path', 'module properties activation'].filter(
    (path) => of(policyCrd, path) !== of(nodeCrd, path),
  );
}

function schemaIn(crd: unknown, below: readonly string[]): Schema {
  const path = ['spec', 'versions', '0', 'schema', 'openAPIV3Schema', ...below];
  let at: unknown = crd;
  for (const name of path) at = (at as Record<string, unknown> | undefined)?.[name];
  if (typeof at !== 'object' || at === null) throw new Error(`the CRD has no ${path.join('.')}`);
  return at as Schema;
}

/** The schema of a NodeConfig: what it shares with IpvsBpfPolicy is taken from there. */
export function nodeConfigSchema(policySpec: Schema): Schema {
  const shared = (name: string): Schema => {
    const schema = policySpec.properties?.[name];
    if (schema === undefined) throw new Error(`the CRD's spec has no field ${name}`);
    return jsonSchema(schema);
  };
  const snat = alwaysByDefault(shared('snat'));
  return {
    type: 'object',
    description: 'What the agent makes of one machine in standalone mode.',
    additionalProperties: false,
    required: ['apiVersion', 'kind', 'mode', 'services'],
    properties: {
      apiVersion: { type: 'string', enum: [API_VERSION], description: 'The version of this format.' },
      kind: { type: 'string', enum: ['NodeConfig'], description: 'The kind of this object.' },
      mode: {
        type: 'string',
        enum: ['Enabled', 'Disabled'],
        description:
          'Enabled accelerates the virtual servers. Disabled turns the switch off and leaves the module where it ' +
          'is; connections that run accelerated do so until they end.',
      },
      services: servicesSchema(snat),
      snat,
      ipvs: shared('ipvs'),
      datapath: shared('datapath'),
      module: moduleOfOneKernel(shared('module')),
    },
  };
}

/** Without a policy nobody knows the cluster's prefixes: the real servers' replies must find back all the same. */
function alwaysByDefault(snat: Schema): Schema {
  const mode = { ...snat.properties?.mode, default: 'Always' };
  return { ...snat, properties: { ...snat.properties, mode } };
}

/** One machine has one kernel: it needs no mapping from kernels to modules. */
function moduleOfOneKernel(module: Schema): Schema {
  const { path, activation } = module.properties ?? {};
  if (path === undefined || activation === undefined) {
    throw new Error("the CRD's module has no field path, or none activation");
  }
  return { ...module, description: 'The patched ip_vs module.', properties: { path, activation } };
}

function servicesSchema(snat: Schema): Schema {
  const { default: _, ...mode } = snat.properties?.mode ?? {};
  return {
    type: 'object',
    description: 'The virtual servers to accelerate: a list of them, or all.',
    additionalProperties: false,
    properties: {
      all: {
        type: 'boolean',
        default: false,
        description:
          'true takes every virtual server that can be accelerated, also those that are added later.',
      },
      virtualServers: {
        type: 'array',
        maxItems: 65536,
        default: [],
        description: 'The virtual servers to accelerate, if not all.',
        items: {
          type: 'object',
          additionalProperties: false,
          required: ['address', 'port', 'protocol'],
          properties: {
            address: { type: 'string', description: 'The virtual IPv4 or IPv6 address.' },
            port: { type: 'integer', minimum: 1, maximum: 65535, description: 'The virtual port, 1..65535.' },
            protocol: {
              type: 'string',
              enum: ['TCP', 'UDP', 'SCTP'],
              description: 'The transport protocol.',
            },
            snat: {
              type: 'object',
              additionalProperties: false,
              required: ['mode'],
              description:
                'Overrides snat of the whole node for this virtual server; clusterCIDRs stay the same.',
              properties: { mode },
            },
          },
        },
      },
    },
  };
}

function mapValues(
  record: Readonly<Record<string, Schema>>,
  map: (value: Schema) => Schema,
): Record<string, Schema> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, map(value)]));
}
