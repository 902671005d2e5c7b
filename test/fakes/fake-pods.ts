// SPDX-License-Identifier: Apache-2.0
import type { ExecOptions, LogOptions, Pods } from '../../src/cluster-ports.ts';
import { ClusterError } from '../../src/core/cluster-error.ts';
import { keyOf, type ObjectName } from '../../src/core/kube-object.ts';

type Ended = Awaited<ReturnType<Pods['exec']>>;

/** Pods that say what a test lets them say. */
export class FakePods implements Pods {
  /** "namespace/name", and "previous namespace/name" → log */
  readonly logs = new Map<string, string>();
  /** "namespace/name: COMMAND", as they came. */
  readonly commands: string[] = [];
  run: (pod: ObjectName, options: ExecOptions) => Ended | Promise<Ended> = () => ({ status: 0, stderr: '' });

  async log(pod: ObjectName, { previous = false }: LogOptions): Promise<string> {
    const found = this.logs.get(`${previous ? 'previous ' : ''}${keyOf(pod)}`);
    if (found !== undefined) return found;
    const [status, reason] = previous ? [400, 'BadRequest'] : [404, 'NotFound'];
    throw new ClusterError(`read the log of pod ${keyOf(pod)}`, {
      status: Number(status),
      reason: String(reason),
      detail: 'not found',
    });
  }

  async exec(pod: ObjectName, options: ExecOptions): Promise<Ended> {
    this.commands.push(`${keyOf(pod)}: ${options.command.join(' ')}`);
    return await this.run(pod, options);
  }
}
