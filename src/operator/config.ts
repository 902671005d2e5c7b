// SPDX-License-Identifier: Apache-2.0
/** The operator's configuration, from the environment that the chart writes. */
import { hostname } from 'node:os';
import type { AgentConfig } from '../core/manifests.ts';
import { integer, json, oneOf, optionalText, readEnvironment, text } from '../runtime/env-config.ts';
import { LOG_FORMATS, LOG_LEVELS, type LogFormat, type LogLevel } from '../runtime/logger.ts';

export interface OperatorConfig {
  /** This replica. */
  readonly identity: string;
  readonly namespace: string;
  /** Of /healthz, /readyz and /metrics; 0 takes any. */
  readonly httpPort: number;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
  readonly resyncMs: number;
  readonly leaseMs: number;
  readonly renewMs: number;
  readonly retryMs: number;
  /** Undefined: no agents are run (a test, or somebody else runs them). */
  readonly agent: AgentConfig | undefined;
}

/**
 * @param environment process.env
 * @throws EnvironmentError with all problems at once
 */
export function readOperatorConfig(
  environment: Readonly<Record<string, string | undefined>>,
): OperatorConfig {
  const values = readEnvironment(
    environment,
    {
      IPVS_BPF_POD_NAME: optionalText(),
      IPVS_BPF_NAMESPACE: text('ipvs-bpf'),
      IPVS_BPF_HTTP_PORT: integer({ min: 0, max: 65_535, fallback: 8080 }),
      IPVS_BPF_LOG_LEVEL: oneOf(LOG_LEVELS, 'info'),
      IPVS_BPF_LOG_FORMAT: oneOf(LOG_FORMATS, 'json'),
      IPVS_BPF_RESYNC_SECONDS: integer({ min: 10, max: 3600, fallback: 300 }),
      IPVS_BPF_LEASE_SECONDS: integer({ min: 2, max: 300, fallback: 15 }),
      IPVS_BPF_RENEW_SECONDS: integer({ min: 1, max: 299, fallback: 10 }),
      IPVS_BPF_RETRY_SECONDS: integer({ min: 1, max: 60, fallback: 2 }),
      IPVS_BPF_AGENT: json(undefined, agentSettings),
    },
    { prefix: 'IPVS_BPF_', alsoKnown: ['IPVS_BPF_BUILD_DIR'] },
  );
  return {
    identity: values.IPVS_BPF_POD_NAME ?? hostname(),
    namespace: values.IPVS_BPF_NAMESPACE,
    httpPort: values.IPVS_BPF_HTTP_PORT,
    logLevel: values.IPVS_BPF_LOG_LEVEL,
    logFormat: values.IPVS_BPF_LOG_FORMAT,
    resyncMs: values.IPVS_BPF_RESYNC_SECONDS * 1000,
    leaseMs: values.IPVS_BPF_LEASE_SECONDS * 1000,
    renewMs: values.IPVS_BPF_RENEW_SECONDS * 1000,
    retryMs: values.IPVS_BPF_RETRY_SECONDS * 1000,
    agent:
      values.IPVS_BPF_AGENT === undefined
        ? undefined
        : { ...values.IPVS_BPF_AGENT, namespace: values.IPVS_BPF_NAMESPACE },
  };
}

type AgentSettings = Omit<AgentConfig, 'namespace'>;

const PULL_POLICIES = ['Always', 'IfNotPresent', 'Never'] as const;

/** The chart's helper ipvs-bpf.agent.config writes it. */
function agentSettings(raw: unknown): AgentSettings | undefined {
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) throw new Error('must be an object');
  const fields = raw as Readonly<Record<string, unknown>>;
  const word = (name: string, fallback?: string): string => {
    const value = fields[name] ?? fallback;
    if (typeof value !== 'string') throw new Error(`.${name} must be a text`);
    return value;
  };
  const pullPolicy = word('imagePullPolicy', 'IfNotPresent');
  const imagePullPolicy = PULL_POLICIES.find((one) => one === pullPolicy);
  if (imagePullPolicy === undefined) {
    throw new Error(`.imagePullPolicy must be one of ${PULL_POLICIES.join(', ')}`);
  }
  const apiServer = word('apiServer', '');
  const updateStrategy = record(fields, 'updateStrategy');
  const metricsPort = port(fields, 'metricsPort');
  return {
    image: word('image'),
    imagePullPolicy,
    imagePullSecrets: list<string>(fields, 'imagePullSecrets'),
    moduleHostPath: word('moduleHostPath'),
    ...(apiServer === '' ? {} : { apiServer }),
    logLevel: word('logLevel', 'info'),
    logFormat: word('logFormat', 'json'),
    priorityClassName: word('priorityClassName', ''),
    resources: record(fields, 'resources'),
    nodeSelector: record(fields, 'nodeSelector') as Readonly<Record<string, string>>,
    tolerations: list<Readonly<Record<string, unknown>>>(fields, 'tolerations'),
    ...(Object.keys(updateStrategy).length === 0 ? {} : { updateStrategy }),
    ...(metricsPort === 0 ? {} : { metricsPort }),
  };
}

function port(fields: Readonly<Record<string, unknown>>, name: string): number {
  const value = fields[name] ?? 0;
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > 65_535) {
    throw new Error(`.${name} must be a whole number from 0 to 65535, not ${JSON.stringify(value)}`);
  }
  return value;
}

function list<T>(fields: Readonly<Record<string, unknown>>, name: string): readonly T[] {
  const value = fields[name] ?? [];
  if (!Array.isArray(value)) throw new Error(`.${name} must be a list`);
  return value;
}

function record(fields: Readonly<Record<string, unknown>>, name: string): Readonly<Record<string, unknown>> {
  const value = fields[name] ?? {};
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Error(`.${name} must be an object`);
  }
  return value as Readonly<Record<string, unknown>>;
}
