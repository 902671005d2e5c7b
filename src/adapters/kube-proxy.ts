// SPDX-License-Identifier: Apache-2.0
/** kube-proxy as processes of this host. */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoError, errnoOf, HostError, isNotFound } from '../core/errors.ts';
import type { KubeProxy, ProcessIdentity } from '../ports.ts';
import { readHttp } from './http-read.ts';
import { linkIfThere, listIfThere, readIfThere } from './proc.ts';

const NAME = 'kube-proxy';
const STOP_TIMEOUT_MS = 5_000;
const STOP_PAUSE_MS = 10;
const METRICS_PORT = 10249;
const MODE_LIMITS = { milliseconds: 1_000, bytes: 64 };
/** Its metrics grow with the node's Services; what is sought is near their end. */
const METRICS_LIMITS = { milliseconds: 2_000, bytes: 4 << 20 };
const BUILD_INFO = /^kubernetes_build_info\{[^}\n]*\bgit_version="([^"\n]*)"/m;
const VERSION = /^v?\d+\.\d+[\w.+-]{0,56}$/;

/** Lets PID ($1, begun at $2) go on after $3 seconds; ends as soon as somebody else did. */
const GUARD = `
pid=$1 begun=$2 left=$3
stands() {
	read -r line 2>/dev/null <"/proc/$pid/stat" || return 1
	set -- ${'$'}{line##*)}
	[ "$1" = T ] && [ "${'$'}{20}" = "$begun" ]
}
sleep 6
while [ "$left" -gt 6 ] && stands; do
	sleep 1
	left=$((left - 1))
done
stands && kill -CONT "$pid"
`;

interface ProcessState {
  /** R, S, D, T and so on. */
  readonly state: string;
  readonly startTime: string;
}

export class ProcKubeProxy implements KubeProxy {
  readonly #metricsPort: number;

  /** `metricsPort`: TCP port on 127.0.0.1 at which kube-proxy tells about itself. */
  constructor(metricsPort = METRICS_PORT) {
    this.#metricsPort = metricsPort;
  }

  async processes(): Promise<readonly ProcessIdentity[]> {
    const found: ProcessIdentity[] = [];
    const own = linkIfThere('/proc/self/ns/net');
    for (const entry of listIfThere('/proc') ?? []) {
      const pid = Number(entry);
      if (!Number.isInteger(pid) || readIfThere(`/proc/${pid}/comm`) !== `${NAME}\n`) continue;
      const namespace = linkIfThere(`/proc/${pid}/ns/net`);
      const state = processState(`/proc/${pid}/stat`);
      if (namespace === own && state !== undefined && state.state !== 'Z') {
        found.push({ pid, startTime: state.startTime });
      }
    }
    return found;
  }

  async frozen(): Promise<readonly ProcessIdentity[]> {
    const found: ProcessIdentity[] = [];
    for (const process of await this.processes()) {
      if (processState(`/proc/${process.pid}/stat`)?.state === 'T') found.push(process);
    }
    return found;
  }

  async freeze(target: ProcessIdentity, seconds: number): Promise<void> {
    if (!isSame(target)) return;
    const guard = spawn('sh', ['-c', GUARD, 'guard', String(target.pid), target.startTime, String(seconds)], {
      detached: true,
      stdio: 'ignore',
    });
    await new Promise<void>((resolve, reject) => {
      guard.once('spawn', resolve);
      guard.once('error', (error) => reject(errnoError('start sh', errnoOf(error) ?? 'EIO', error)));
    });
    guard.unref();
    signal(target.pid, 'SIGSTOP');
    for (let waited = 0; !stands(target); waited += STOP_PAUSE_MS) {
      if (waited >= STOP_TIMEOUT_MS) {
        signal(target.pid, 'SIGCONT');
        throw new HostError(`process ${target.pid} does not stop`, { code: 'CommandTimedOut', retry: true });
      }
      await sleep(STOP_PAUSE_MS);
    }
  }

  async thaw(target: ProcessIdentity): Promise<void> {
    if (isSame(target)) signal(target.pid, 'SIGCONT');
  }

  async mode(): Promise<string | undefined> {
    // Somebody may have set another address for it: then it does not say.
    return (await readHttp({ port: this.#metricsPort, path: '/proxyMode', ...MODE_LIMITS }))?.trim();
  }

  async version(): Promise<string | undefined> {
    const metrics = await readHttp({ port: this.#metricsPort, path: '/metrics', ...METRICS_LIMITS });
    const version = BUILD_INFO.exec(metrics ?? '')?.[1] ?? '';
    return VERSION.test(version) ? version : undefined;
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (!isNotFound(error))
      throw errnoError(`send ${name} to process ${pid}`, errnoOf(error) ?? 'EIO', error);
  }
}

function isSame({ pid, startTime }: ProcessIdentity): boolean {
  return processState(`/proc/${pid}/stat`)?.startTime === startTime;
}

/** True if each of its threads stands, or it has ended. */
function stands({ pid, startTime }: ProcessIdentity): boolean {
  const threads = listIfThere(`/proc/${pid}/task`) ?? [];
  for (const thread of threads) {
    const state = processState(`/proc/${pid}/task/${thread}/stat`);
    if (state !== undefined && !['T', 'Z', 'X'].includes(state.state)) return !isSame({ pid, startTime });
  }
  return true;
}

function processState(path: string): ProcessState | undefined {
  const text = readIfThere(path);
  if (text === undefined) return undefined;
  // The name before the last parenthesis may hold anything.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { state: fields[0] ?? '', startTime: fields[19] ?? '' };
}
