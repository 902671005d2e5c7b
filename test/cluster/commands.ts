// SPDX-License-Identifier: Apache-2.0
/** Commands whose standard streams and exit status are passed through. */
import { inherit } from '../../scripts/exec.ts';
import { channelBinary } from './channel.ts';
import { runningSettings } from './cluster.ts';
import { kubernetesBinary } from './go.ts';
import { addresses, type Layout, nodeIdentities, statePaths } from './layout.ts';
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

/** Runs a command on a node as root; 255 if the node cannot be reached. */
export async function runOnNode(layout: Layout, name: string, words: readonly string[]): Promise<number> {
  const { nodes } = await runningSettings(layout);
  const known = nodeIdentities(nodes);
  const node = known.find((each) => each.name === name);
  if (node === undefined || words.length === 0) {
    throw new Error(
      `exec NODE COMMAND…: NODE is one of ${known.map((each) => each.name).join(', ') || 'none'}`,
    );
  }
  const channel = [await channelBinary(), 'run', node.address, String(addresses.commandPort)];
  const [program, ...args] = insideOf(layout.netns, [...channel, ...words]);
  return inherit(program, args);
}

/** npm runs scripts in the checkout; file names are meant from where npm was called. */
function callersFolder(): { cwd: string } {
  return { cwd: process.env.INIT_CWD ?? process.cwd() };
}
