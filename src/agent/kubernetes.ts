// SPDX-License-Identifier: Apache-2.0
/** The node of a cluster: what its IpvsBpfNode asks is done, and what is found is written into its status. */
import type { Cluster, Watched } from '../cluster-ports.ts';
import { sameValue } from '../core/canonical.ts';
import { type Drift, driftIn } from '../core/drift.ts';
import { switchIsOn } from '../core/facts.ts';
import { resourceStatus } from '../core/node-resource-status.ts';
import {
  currentProgress,
  NATIVE_PROGRESS,
  type NodeProgress,
  type NodeTarget,
  sameTarget,
  sharesServices,
} from '../core/node-target.ts';
import { IPVS_BPF_NODES } from '../core/resource-types.ts';
import type { NodeMemories } from '../ports.ts';
import { afterFailedProbe, attemptDown, attemptUp, beginning } from './attempt.ts';
import { thawAll, thawLeftBehind } from './execute.ts';
import { messageOf, probe } from './ladder.ts';
import type { NodeMeasures } from './measures.ts';
import { prepareBoot } from './next-boot.ts';
import { observeModuleFile, routesFor } from './observe.ts';
import { ProxyWatch, type Restart } from './proxy-watch.ts';
import type { Node, Observation } from './reconcile.ts';
import { checksOf, type Seen, see } from './see.ts';
import { probeServices } from './service-probe.ts';
import { StatusWriter } from './status-writer.ts';
import { type TargetOptions, Targets } from './target.ts';

/** Half of what drift may take until it is noticed. */
export const INTERVAL_MS = 5_000;
/** A module that came so lately may be for a spec that this agent does not have yet. */
const DELIVERED_NEW_MS = 600_000;
/** Between two probes of a node that nothing else was done to. */
const PROBE_EVERY_MS = 60_000;

export interface KubernetesOptions extends TargetOptions {
  readonly cluster: Pick<Cluster, 'watch' | 'applyStatus'>;
  readonly nodeName: string;
  readonly agentVersion: string;
  readonly osImage: string;
  readonly memories: NodeMemories;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  readonly measures?: NodeMeasures;
}

type Probe = { readonly passed: boolean; readonly message: string };
const PASSED: Probe = { passed: true, message: 'A request went through the accelerated path.' };

export class KubernetesAgent {
  readonly #node: Node;
  readonly #options: KubernetesOptions;
  readonly #nodes: Watched;
  readonly #proxy: ProxyWatch;
  readonly #targets: Targets;
  #target: NodeTarget | undefined;
  #progress: NodeProgress = NATIVE_PROGRESS;
  #hooked: ReadonlySet<number> = new Set();
  #probe: Probe | undefined;
  #probedAt = Number.NEGATIVE_INFINITY;
  #servicesProbedAt = Number.NEGATIVE_INFINITY;
  #corrected: string | undefined;
  /** The restart of kube-proxy that `#corrected` was written after. */
  #told: Restart | undefined;
  readonly #status: StatusWriter;
  #remembers = true;
  /** In a row. */
  #failedLooks = 0;
  /** When a look at the node last ended, by the node's clock. */
  lookedAt: number | undefined;

  constructor(node: Node, options: KubernetesOptions) {
    this.#node = node;
    this.#options = options;
    this.#proxy = new ProxyWatch(node.ports);
    const { cluster, nodeName, wake } = options;
    const scope = { fieldSelector: `metadata.name=${nodeName}` };
    this.#nodes = cluster.watch(IPVS_BPF_NODES, scope, { onChange: wake, onState: wake });
    this.#targets = new Targets(options);
    this.#status = new StatusWriter(cluster, { nodeName, log: node.log, nodes: this.#nodes });
  }

  /** What the API server's side lacks; undefined if nothing. For readiness and logs, not for what is done. */
  get problem(): string | undefined {
    if (!this.#nodes.hasSynced) return this.#nodes.problem ?? 'the IpvsBpfNode was not read yet';
    return this.#nodes.problem ?? this.#targets.problem;
  }

  /** Reads what was remembered: it holds until the API server says otherwise. */
  async start(): Promise<void> {
    const { target, progress } = await this.#options.memories.read();
    this.#target = target;
    this.#progress = progress ?? NATIVE_PROGRESS;
    await thawLeftBehind(this.#node.ports, this.#node.log);
  }

  stop(): void {
    this.#nodes.stop();
    this.#targets.stop();
  }

  /** One look: observe, decide, act, report. Throws what observing throws; if that happens again, status says so. */
  async look(): Promise<void> {
    try {
      await this.#look();
      this.#failedLooks = 0;
      this.lookedAt = this.#node.ports.clock.now();
    } catch (error) {
      this.#failedLooks += 1;
      const target = this.#failedLooks > 1 ? this.#target : undefined;
      if (target !== undefined) await this.#status.writeFailedLook(messageOf(error), this.#at(target));
      throw error;
    }
  }

  async #look(): Promise<void> {
    await this.#takeTarget();
    const target = this.#target;
    if (target === undefined) return;
    await this.#status.greet(this.#at(target));
    await this.#setProgress(currentProgress(this.#progress, target));
    const seen = await this.#see(target);
    const drift = this.#driftIn(seen);
    this.#options.measures?.drifted(drift);
    const held = drift !== undefined && target.spec.driftPolicy === 'Report';
    const progress = this.#progress;
    let known: Observation | undefined;
    if (seen.decision.act === 'Down') await this.#goDown(target, seen);
    else if (seen.decision.act === 'Up' && seen.mustAct && !held) known = await this.#goUp(target, seen);
    else known = await this.#stayThere(target, seen);
    const isSame = known === seen && progress === this.#progress;
    const now = await this.#validate(target, isSame ? seen : await this.#see(target, known));
    const left = drift === undefined ? undefined : this.#driftIn(now);
    if (drift !== undefined && left === undefined && this.#isConverged(now)) this.#putRight(drift, now);
    if (this.#isConverged(now) && now.steps.length === 0) await this.#note(now);
    const reverted = now.decision.act === 'Nothing' && now.decision.why === 'Reverted';
    if (reverted) await this.#forget();
    await this.#report(target, await this.#tidy(target, now, reverted), left);
  }

  /** What the API server has, once it is known; a node object that is gone leaves everything as it is. */
  async #takeTarget(): Promise<void> {
    const { object } = this.#status;
    if (object === undefined) return;
    const next = this.#targets.of(object);
    if (next === undefined) return;
    const known = this.#target;
    const asked = known !== undefined && sameTarget(next, known);
    // One copy of thousands of Services is enough: those that were read from the disk make room.
    if (!asked || !sharesServices(next, known)) this.#target = next;
    if (asked) return;
    this.#options.measures?.received(next);
    await this.#remember();
  }

  /** @param known what the node is like, if that was observed just now */
  #see(target: NodeTarget, known?: Observation): Promise<Seen> {
    const context = { node: this.#node, proxy: this.#proxy, progress: this.#progress };
    return see(target, { ...context, now: this.#options.now() }, known);
  }

  /** True if the node was brought to just this before. */
  #isConverged({ decision }: Pick<Seen, 'decision'>): boolean {
    return decision.act === 'Up' && decision.input === this.#progress.converged;
  }

  #driftIn(seen: Seen): Drift | undefined {
    if (!this.#isConverged(seen)) return undefined;
    const { steps, restart } = seen;
    return driftIn(steps, {
      hooked: this.#hooked,
      ...(restart === undefined ? {} : { proxyRestartedAt: restart.at }),
    });
  }

  #putRight(drift: Drift, { restart }: Seen): void {
    this.#corrected = `${drift.message} It was put right at ${this.#node.ports.clock.date()}.`;
    this.#told = restart;
    this.#node.log.warn('drift corrected', { reason: drift.reason, message: drift.message });
  }

  /** What a node has that is as it should be, also after a restart of kube-proxy, which may have changed nothing. */
  async #note({ facts, restart }: Seen): Promise<void> {
    this.#hooked = new Set(facts.attachments.map(({ ifindex }) => ifindex));
    if (restart !== undefined && restart !== this.#told) {
      this.#told = restart;
      this.#corrected = `kube-proxy restarted at ${restart.at}; its settings were checked, and nothing had to be put right.`;
      this.#node.log.info('kube-proxy restarted', {
        pids: restart.processes.map(({ pid }) => pid).join(' '),
      });
    }
    const kubeProxy = this.#proxy.known(this.#progress.kubeProxy, facts);
    await this.#setProgress({ ...this.#progress, kubeProxy });
  }

  /** Answers what the node is like then, if that was observed. */
  async #goUp(target: NodeTarget, seen: Seen): Promise<Observation | undefined> {
    const { facts, decision, steps } = seen;
    const checks = checksOf(target, decision, facts);
    if (decision.act !== 'Up' || checks.some(({ result }) => result === 'Fail'))
      return this.#rest(target, seen);
    if (steps.some(({ kind }) => kind === 'removeModule' || kind === 'insertModule')) {
      await this.#report(target, seen, undefined, true);
    }
    const begun = beginning(decision, this.#progress, steps);
    if (begun !== this.#progress) await this.#setProgress(begun);
    const attempt = await attemptUp(decision, target, {
      before: seen,
      progress: this.#progress,
      node: this.#node,
    });
    if (attempt.probed) this.#probed(PASSED);
    else if (attempt.progress.failure !== this.#progress.failure) this.#probe = undefined;
    await this.#setProgress(attempt.progress);
    if (attempt.again) this.#options.wake();
    return attempt.after;
  }

  async #goDown(target: NodeTarget, seen: Seen): Promise<void> {
    await this.#report(target, seen, undefined, true);
    this.#probe = undefined;
    await this.#setProgress(await attemptDown(target, { progress: this.#progress, node: this.#node }));
  }

  /** Nothing is to be done; an accelerating node shows now and then that it is one. */
  async #stayThere(target: NodeTarget, seen: Seen): Promise<Observation | undefined> {
    const { decision } = seen;
    const known = await this.#rest(target, seen);
    const accelerates = decision.act === 'Up' && target.spec.mode === 'Enabled';
    if (!accelerates) {
      this.#probe = undefined;
      return known;
    }
    const age = this.#node.ports.clock.now() - this.#probedAt;
    if (this.#probe !== undefined && age < PROBE_EVERY_MS) return known;
    try {
      await probe(this.#node);
      this.#probed(PASSED);
    } catch (error) {
      this.#probed({ passed: false, message: messageOf(error) });
      const context = { target, progress: this.#progress, node: this.#node };
      await this.#setProgress(await afterFailedProbe(error, context));
    }
    return undefined;
  }

  /** Nothing but the next boot is cared for, and nothing stays stopped. Undefined if that changed something. */
  async #rest(target: NodeTarget, seen: Seen): Promise<Seen | undefined> {
    const report = () => this.#report(target, { ...seen, steps: seen.bootSteps }, undefined, true);
    const context = { target, progress: this.#progress, node: this.#node };
    const prepared = await prepareBoot(seen, context, report);
    if (prepared !== undefined) await this.#setProgress(prepared);
    else if (seen.record.frozen === undefined) return seen;
    await thawAll(this.#node.ports, this.#node.log);
    return undefined;
  }

  /** Once a node is what it should be and passes packets: does each Service that is new on it, too? */
  async #validate(target: NodeTarget, seen: Seen): Promise<Seen> {
    const { facts, decision, steps } = seen;
    const { servicesOff, unprobed = [], converged } = this.#progress;
    const { clock } = this.#node.ports;
    if (unprobed.length === 0 || clock.now() - this.#servicesProbedAt < INTERVAL_MS) return seen;
    if (decision.act !== 'Up' || target.spec.mode !== 'Enabled' || this.#probe?.passed !== true) return seen;
    if (steps.length > 0 || decision.input !== converged) return seen;
    this.#servicesProbedAt = clock.now();
    const context = { target, progress: this.#progress, node: this.#node };
    await this.#setProgress(await probeServices({ facts, revision: decision.revision }, context));
    if (sameValue(servicesOff, this.#progress.servicesOff)) return seen;
    await this.#goUp(target, await this.#see(target));
    return this.#see(target);
  }

  #probed(result: Probe): void {
    this.#probe = result;
    this.#probedAt = this.#node.ports.clock.now();
  }

  async #setProgress(progress: NodeProgress): Promise<void> {
    if (sameValue(progress, this.#progress)) return;
    this.#options.measures?.progressed(this.#progress, progress);
    this.#progress = progress;
    await this.#remember();
  }

  async #remember(): Promise<void> {
    const target = this.#target === undefined ? {} : { target: this.#target };
    await this.#options.memories.write({ ...target, progress: this.#progress });
    this.#remembers = true;
  }

  /** A node that is what it was before the first change has nothing to keep: no file of ours stays. */
  async #forget(): Promise<void> {
    if (!this.#remembers) return;
    await this.#options.memories.write({});
    this.#remembers = false;
  }

  /** Modules that were delivered for what is no longer asked for, and is not run either, go. */
  async #tidy({ spec }: NodeTarget, now: Seen, reverted: boolean): Promise<Seen> {
    const { modules } = this.#node.ports;
    const paths = reverted ? [] : [spec.module.path, this.#progress.applied?.module.path];
    const newMs = reverted ? 0 : DELIVERED_NEW_MS;
    await modules.keepDelivered(
      paths.filter((path) => path !== undefined),
      newMs,
    );
    if (!reverted || now.file?.state !== 'Found') return now;
    return { ...now, file: await observeModuleFile(modules, now.file.path) };
  }

  #at({ generation }: NodeTarget) {
    return { generation, time: this.#node.ports.clock.date() };
  }

  /** Writes only what is new. The API server may be away: it is told with a later look. */
  async #report(target: NodeTarget, seen: Seen, drift: Drift | undefined, working = false): Promise<void> {
    const { previous } = this.#status;
    const time = this.#node.ports.clock.date();
    const [first] = seen.steps;
    const status = resourceStatus({
      ...seen,
      target,
      progress: this.#progress,
      stepsLeft: seen.steps.length,
      ...(drift === undefined ? {} : { drift }),
      ...(this.#corrected === undefined ? {} : { corrected: this.#corrected }),
      ...(this.#probe === undefined ? {} : { probe: this.#probe }),
      working,
      agentVersion: this.#options.agentVersion,
      osImage: this.#options.osImage,
      routes: switchIsOn(seen.facts) ? await routesFor(seen.facts, this.#node.ports.links) : [],
      previous,
      time,
      ...(working
        ? { step: { name: first?.kind ?? 'down', attempt: target.spec.attempt, startedAt: time } }
        : {}),
    });
    this.#options.measures?.reported({ status, facts: seen.facts, probe: this.#probe });
    await this.#status.write(status);
  }
}
