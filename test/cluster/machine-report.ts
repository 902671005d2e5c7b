// SPDX-License-Identifier: Apache-2.0
/** What the machine of a node that does not answer is found doing. */
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { place } from './control-plane.ts';
import { type Layout, type NodeIdentity, statePaths } from './layout.ts';
import { MONITOR, machine } from './nodes.ts';
import { logTail, runningPid } from './processes.ts';

const CONSOLE_LINES = 120;
const PANIC_MS = 5_000;

/**
 * Whether it runs, what QEMU said, and the end of its console. If it runs it is told to panic, which says on its console
 * where its kernel stands, and boots it again.
 */
export async function machineReport(layout: Layout, node: NodeIdentity): Promise<string> {
  const folder = statePaths(layout.stateDir).node(node.name);
  const pid = await runningPid(machine(node), place(layout));
  const lines = [`${node.name}: ${pid === undefined ? 'ended' : `process ${pid}`}`];
  lines.push(await logTail(machine(node), place(layout)));
  if (pid !== undefined) {
    lines.push('it is told to panic');
    lines.push(await injectNmi(join(folder, MONITOR)).catch(String));
    await new Promise((done) => setTimeout(done, PANIC_MS));
  }
  const console = await readFile(join(folder, 'console.log'), 'utf8').catch(String);
  lines.push(...console.trimEnd().split('\n').slice(-CONSOLE_LINES));
  return lines.filter(Boolean).join('\n');
}

/** With `unknown_nmi_panic` the kernel takes it for an order to panic, whatever it does at the time. */
function injectNmi(monitor: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let said = '';
    const socket = connect(monitor);
    socket.setTimeout(PANIC_MS, () => socket.destroy());
    socket.on('data', (data) => {
      said += data;
    });
    socket.once('error', reject);
    socket.once('close', () => resolve(said));
    socket.once('connect', () => socket.end('info registers\nnmi\n'));
  });
}
