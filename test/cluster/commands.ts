// SPDX-License-Identifier: Apache-2.0
/** Commands whose standard streams and exit status are passed through. */
import { inherit } from '../../scripts/exec.ts';
import { runningSettings } from './cluster.ts';
import { kubernetesBinary } from './go.ts';
import { type Layout, statePaths } from './layout.ts';
import { insideOf } from './network.ts';

export async function kubectl(layout: Layout, words: readonly string[]): Promise<number> {
  const { kubernetes } = await runningSettings(layout);
  const program = await kubernetesBinary('kubectl', kubernetes);
  return inherit(
    program,
    ['--kubeconfig', statePaths(layout.stateDir).kubeconfig, ...words],
    callersFolder(),
  );
}

/** Runs a command in the namespace of the host outside of the cluster. */
export async function runInClient(layout: Layout, words: readonly string[]): Promise<number> {
  await runningSettings(layout);
  if (words.length === 0) throw new Error('client: no command');
  const [program, ...args] = insideOf(layout.clientNetns, words);
  return inherit(program, args, callersFolder());
}

/** npm runs scripts in the checkout; file names are meant from where npm was called. */
function callersFolder(): { cwd: string } {
  return { cwd: process.env.INIT_CWD ?? process.cwd() };
}
