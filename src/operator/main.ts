// SPDX-License-Identifier: Apache-2.0
/** Wiring: adapters, environment, signals. */
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import manifest from '../../package.json' with { type: 'json' };
import { KubernetesCluster } from '../adapters/kubernetes.ts';
import { loadKubeConfig, type PooledKubeConfig } from '../adapters/kubernetes-client.ts';
import { OperatorBase, type OperatorBaseOptions } from '../adapters/kubernetes-operator.ts';
import { LeaderElection } from '../adapters/lease.ts';
import { POLICY_FINALIZER } from '../api/resources.ts';
import type { ResourceType } from '../core/kube-object.ts';
import { planCluster } from '../core/policy-plan.ts';
import { POLICIES } from '../core/resource-types.ts';
import { LineLogger } from '../runtime/logger.ts';
import { serveStatus } from '../runtime/server.ts';
import { WorkQueue } from '../runtime/work-queue.ts';
import { type OperatorConfig, readOperatorConfig } from './config.ts';
import { Engine, type EngineOptions } from './engine.ts';
import { fencedCluster } from './fenced-cluster.ts';
import { type OperatorMetrics, operatorMetrics } from './metrics.ts';
import { checkUninstall } from './uninstall.ts';

type EngineParts = Omit<EngineOptions, 'policies' | 'settleFinalizer' | 'cluster'>;

const OPERATOR_NAME = 'ipvs-bpf-operator';
const now = (): number => performance.now();

/** The operator as the package's life cycle has it: start() calls init(), which begins to watch. */
class PolicyOperator extends OperatorBase {
  engine: Engine | undefined;
  readonly #parts: EngineParts;

  constructor(options: OperatorBaseOptions, parts: EngineParts) {
    super(options);
    this.#parts = parts;
  }

  protected override async init(): Promise<void> {
    const { group, version, plural } = POLICIES;
    await this.watchResource(group, version, plural, async () => this.engine?.wake());
    this.engine = new Engine({
      ...this.#parts,
      cluster: this.cluster,
      policies: this.storeOf(plural),
      settleFinalizer: (policy) => this.settleFinalizer(plural, policy, POLICY_FINALIZER),
    });
  }

  protected override typeOf(): ResourceType {
    return POLICIES;
  }

  override async shutdown(): Promise<void> {
    await this.engine?.stop();
    await super.shutdown();
  }
}

/**
 * `ipvs-bpf operator`: runs until SIGTERM or SIGINT, or until it no longer leads.
 * @returns the exit status: 0 when told to end, 1 when leadership was lost
 * @throws EnvironmentError with all problems of the environment
 */
export async function runOperator(environment: NodeJS.ProcessEnv): Promise<number> {
  const config = readOperatorConfig(environment);
  const log = new LineLogger({ level: config.logLevel, format: config.logFormat });
  const kubeConfig = loadKubeConfig();
  const metrics = operatorMetrics(manifest.version);
  const ended = Promise.withResolvers<number>();
  const { election, operator } = createOperator(config, kubeConfig, { log, metrics, end: ended.resolve });
  const server = await serveStatus({
    port: config.httpPort,
    checks: {
      healthy: {},
      ready: {
        // A replica that stands by is ready to take over.
        watches: () =>
          election.leading
            ? [...(operator.engine?.stores.problems().values() ?? [])].join('; ') || undefined
            : undefined,
      },
    },
    metrics: () => metrics.text(),
  });
  log.info('started', { identity: config.identity, port: server.port });
  const onSignal = () => ended.resolve(0);
  process.once('SIGTERM', onSignal).once('SIGINT', onSignal);
  election.start();
  const status = await ended.promise;
  await operator.shutdown();
  await election.stop();
  await server.close();
  await kubeConfig.close();
  log.info('ended', { status });
  await log.close();
  return status;
}

/**
 * `ipvs-bpf uninstall-check`: the chart runs it before it is uninstalled.
 * @throws UninstallRefused while the operator is needed
 */
export async function runUninstallCheck(options: {
  readonly revert: boolean;
  readonly timeoutMs: number;
}): Promise<void> {
  const config = loadKubeConfig();
  const cluster = new KubernetesCluster({ config, component: 'ipvs-bpf-uninstall', instance: hostname() });
  try {
    const say = (line: string) => void process.stdout.write(`${line}\n`);
    await checkUninstall({ ...options, cluster, now, sleep, say });
  } finally {
    await config.close();
  }
}

function createOperator(
  config: OperatorConfig,
  kubeConfig: PooledKubeConfig,
  { log, metrics, end }: { log: LineLogger; metrics: OperatorMetrics; end: (status: number) => void },
): { readonly election: LeaderElection; readonly operator: PolicyOperator } {
  const { identity, namespace, agent, resyncMs } = config;
  const cluster = new KubernetesCluster({
    config: kubeConfig,
    component: OPERATOR_NAME,
    instance: identity,
    onAnswer: (method, status) => metrics.increment('api_requests_total', { method, status: String(status) }),
  });
  const election = new LeaderElection({
    cluster,
    lease: { name: OPERATOR_NAME, namespace },
    identity,
    durationMs: config.leaseMs,
    renewDeadlineMs: config.renewMs,
    retryMs: config.retryMs,
    now,
    date: () => new Date(),
    onStarted: () => {
      log.info('leads', { identity });
      metrics.setOne('leader', {}, 1);
      operator.start().catch((error: unknown) => {
        log.error('could not start', { error: error instanceof Error ? error.message : String(error) });
        end(1);
      });
    },
    onStopped: (reason) => {
      log.warn('leads no longer', { identity, reason });
      metrics.setOne('leader', {}, 0);
      end(1);
    },
    onError: (error) =>
      log.warn('leader election', { error: error instanceof Error ? error.message : String(error) }),
  });
  const options: OperatorBaseOptions = {
    cluster: fencedCluster(cluster, () => election.leading),
    config: kubeConfig,
    log,
    createQueue: (work) => new WorkQueue({ work, now, random: Math.random }),
    statusManager: OPERATOR_NAME,
  };
  const random = Math.random;
  const parts = { plan: planCluster, namespace, agent, resyncMs, metrics, log, now, date: Date.now, random };
  const operator = new PolicyOperator(options, parts);
  return { election, operator };
}
