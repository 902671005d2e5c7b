// SPDX-License-Identifier: Apache-2.0
/** The operator's process in the scale benchmark: the bundle, as in the image, its start-up and its memory. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildCli } from '../scripts/build-cli.ts';
import { type Connection, NAMESPACE, tokenOf } from '../test/operator/api-server.ts';
import { OperatorProcess, type ProcessMemory } from '../test/operator/operator-process.ts';
import { MiB, median, totals } from './scale-numbers.ts';

/** What the garbage collector tidies up after work is tidied up by then. */
const SETTLE_MS = 60_000;
/** The operator looks at everything each 10 s: several looks are in it. */
const SAMPLES = 31;
const SAMPLE_MS = 1_000;
const LIMIT_MS = 120_000;

/** @param admin who makes the token, which has the rights that the chart gives the operator */
export async function startOperator(admin: Connection): Promise<OperatorProcess> {
  return await OperatorProcess.start({
    token: await tokenOf(admin, 'ipvs-bpf-operator'),
    environment: { IPVS_BPF_NAMESPACE: NAMESPACE, IPVS_BPF_POD_NAME: 'bench', IPVS_BPF_HTTP_PORT: '0' },
    command: [join(await buildCli(), 'ipvs-bpf')],
  });
}

export interface StartUp {
  /** Milliseconds until it leads and /readyz answers 200: it knows everything. */
  readonly ready: number;
  /** Milliseconds until it has looked at everything once and written what was to be written. */
  readonly looked: number;
}

/**
 * Call it right after the start.
 * @throws Error if it takes more than two minutes
 */
export async function startUpOf(operator: OperatorProcess): Promise<StartUp> {
  const since = (): number => performance.now() - operator.startedAt;
  let ready: number | undefined;
  while (since() < LIMIT_MS) {
    await sleep(20);
    if (operator.port === undefined) continue;
    const { leads, lastLook } = totals(await operator.metrics());
    // One that stands by is ready, too.
    if (leads && (await operator.readiness()) === 200) ready ??= since();
    if (ready !== undefined && lastLook > 0) return { ready, looked: since() };
  }
  throw new Error(`the operator was not up after ${LIMIT_MS / 1000} s:\n${operator.output.slice(-2000)}`);
}

/** "98 MiB (96 MiB to 104 MiB), 45 MiB of it files of the program" of one for which nothing changes. */
export async function idleMemory(operator: OperatorProcess): Promise<string> {
  await sleep(SETTLE_MS);
  const samples: ProcessMemory[] = [];
  for (let i = 0; i < SAMPLES; i += 1) {
    samples.push(await operator.memory());
    await sleep(SAMPLE_MS);
  }
  const now = samples.map((sample) => sample.now);
  const files = median(samples.map((sample) => sample.now - sample.anonymous));
  const range = `${MiB(Math.min(...now))} to ${MiB(Math.max(...now))}`;
  return `${MiB(median(now))} (${range}), ${MiB(files)} of it files of the program`;
}
