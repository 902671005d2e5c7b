// SPDX-License-Identifier: Apache-2.0
/** Leader election and signs of life, by a Lease. */
import type { Cluster } from '../cluster-ports.ts';
import { isConflict } from '../core/cluster-error.ts';
import type { KubeObject, ObjectName } from '../core/kube-object.ts';
import { apiVersionOf } from '../core/kube-object.ts';
import { LEASES } from '../core/resource-types.ts';

interface LeaseSpec {
  readonly holderIdentity?: string;
  readonly leaseDurationSeconds?: number;
  readonly acquireTime?: string;
  readonly renewTime?: string;
  readonly leaseTransitions?: number;
}

export interface ElectionOptions {
  readonly cluster: Pick<Cluster, 'get' | 'create' | 'replace'>;
  readonly lease: ObjectName & { readonly namespace: string };
  /** This replica; no other may have the same. */
  readonly identity: string;
  /** Another replica takes over when the Lease was not renewed for so long. Default 15 s. */
  readonly durationMs?: number;
  /** The leader gives up when it could not renew for so long; less than durationMs. Default 10 s. */
  readonly renewDeadlineMs?: number;
  /** Pause between two tries. Default 2 s. */
  readonly retryMs?: number;
  /** Milliseconds of a clock that never jumps; the wall clocks of replicas differ, so they are never compared. */
  readonly now: () => number;
  /** Time of day, for what is written into the Lease. */
  readonly date: () => Date;
  readonly onStarted: () => void;
  /** Must see to it at once that nothing is written any more. */
  readonly onStopped: (reason: string) => void;
  readonly onError?: (error: unknown) => void;
}

/**
 * A candidate. It leads from onStarted to onStopped; at most one of all candidates does so at one time,
 * provided that a clock tick is as long for each of them.
 */
export class LeaderElection {
  readonly #options: Required<Omit<ElectionOptions, 'onError'>> & Pick<ElectionOptions, 'onError'>;
  /** The Lease as last seen, and when it was first seen so. */
  #seen: { readonly version: string; readonly at: number } | undefined;
  /** When the try began that renewed last: others count from later on. */
  #renewedAt = 0;
  #leading = false;
  #stopped = false;
  #timer: NodeJS.Timeout | undefined;
  #deadline: NodeJS.Timeout | undefined;
  #trying: Promise<void> | undefined;

  constructor(options: ElectionOptions) {
    this.#options = { durationMs: 15_000, renewDeadlineMs: 10_000, retryMs: 2_000, ...options };
    if (this.#options.renewDeadlineMs >= this.#options.durationMs) {
      throw new Error('renewDeadlineMs must be less than durationMs');
    }
  }

  /** True only while the Lease is ours for certain: also false in a process that was asleep. */
  get leading(): boolean {
    return this.#leading && this.#options.now() - this.#renewedAt < this.#options.renewDeadlineMs;
  }

  start(): void {
    void this.#loop();
  }

  /** Gives the Lease back, so that another replica takes over at once. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#trying;
    clearTimeout(this.#timer);
    const led = this.leading;
    this.#lose('stopped');
    if (!led) return;
    try {
      await this.#release();
    } catch (error) {
      this.#options.onError?.(error);
    }
  }

  async #loop(): Promise<void> {
    this.#trying = this.#try();
    await this.#trying;
    if (this.#stopped) return;
    const { retryMs } = this.#options;
    this.#timer = setTimeout(() => void this.#loop(), retryMs * (0.8 + 0.4 * Math.random()));
  }

  async #try(): Promise<void> {
    const began = this.#options.now();
    try {
      if (await this.#acquireOrRenew(began)) this.#won(began);
      else this.#lose('another replica leads');
    } catch (error) {
      // Whoever loses a race sees it with the next look; a leader that cannot renew runs into its deadline.
      if (!isConflict(error)) this.#options.onError?.(error);
    }
  }

  async #acquireOrRenew(began: number): Promise<boolean> {
    const { cluster, lease, identity, date } = this.#options;
    const found = await cluster.get(LEASES, lease);
    const stamp = microTime(date());
    if (found === undefined) {
      await cluster.create(
        LEASES,
        this.#object({ acquireTime: stamp, renewTime: stamp, leaseTransitions: 0 }),
      );
      return true;
    }
    const spec = (found.spec ?? {}) as LeaseSpec;
    const mine = spec.holderIdentity === identity;
    if (!mine && !this.#mayTake(found, spec, began)) return false;
    await cluster.replace(LEASES, {
      ...found,
      spec: {
        ...spec,
        ...this.#spec(),
        renewTime: stamp,
        acquireTime: mine ? (spec.acquireTime ?? stamp) : stamp,
        leaseTransitions: (spec.leaseTransitions ?? 0) + (mine ? 0 : 1),
      },
    });
    return true;
  }

  /** Free, or seen unchanged for as long as its holder said it would be valid. */
  #mayTake(found: KubeObject, spec: LeaseSpec, began: number): boolean {
    if (spec.holderIdentity === undefined || spec.holderIdentity === '') return true;
    const version = `${found.metadata.uid}/${found.metadata.resourceVersion}`;
    if (this.#seen?.version !== version) {
      this.#seen = { version, at: this.#options.now() };
      return false;
    }
    const heldMs = Math.max(this.#options.durationMs, (spec.leaseDurationSeconds ?? 0) * 1000);
    return began - this.#seen.at >= heldMs;
  }

  #won(began: number): void {
    const { renewDeadlineMs, now, onStarted } = this.#options;
    clearTimeout(this.#deadline);
    this.#renewedAt = began;
    const leftMs = began + renewDeadlineMs - now();
    // An answer that took longer than the deadline is no renewal: another may lead already.
    if (leftMs <= 0 || this.#stopped) {
      this.#lose('the Lease was renewed too late');
      return;
    }
    this.#deadline = setTimeout(() => this.#lose('the Lease could not be renewed in time'), leftMs);
    if (this.#leading) return;
    this.#leading = true;
    onStarted();
  }

  #lose(reason: string): void {
    clearTimeout(this.#deadline);
    if (!this.#leading) return;
    this.#leading = false;
    this.#options.onStopped(reason);
  }

  async #release(): Promise<void> {
    const { cluster, lease, identity, date } = this.#options;
    const found = await cluster.get(LEASES, lease);
    const spec = (found?.spec ?? {}) as LeaseSpec;
    if (found === undefined || spec.holderIdentity !== identity) return;
    await cluster.replace(LEASES, {
      ...found,
      spec: { ...spec, holderIdentity: '', leaseDurationSeconds: 1, renewTime: microTime(date()) },
    });
  }

  #object(times: LeaseSpec): KubeObject {
    const { name, namespace } = this.#options.lease;
    return {
      apiVersion: apiVersionOf(LEASES),
      kind: LEASES.kind,
      metadata: { name, namespace },
      spec: { ...this.#spec(), ...times },
    };
  }

  #spec(): LeaseSpec {
    const { identity, durationMs } = this.#options;
    return { holderIdentity: identity, leaseDurationSeconds: Math.ceil(durationMs / 1000) };
  }
}

/** Kubernetes' MicroTime: "2026-01-02T03:04:05.000000Z". */
export function microTime(date: Date): string {
  return date.toISOString().replace('Z', '000Z');
}
