// SPDX-License-Identifier: Apache-2.0
/**
 * The part of the agent's benchmark inside the virtual machine, bundled before: agent-guest.mjs SERVICES REPEATS
 * runs the agent on this kernel and prints Figures as one line of JSON.
 */
import { join } from 'node:path';
import { createNode } from '../src/agent/main.ts';
import { LineLogger } from '../src/runtime/logger.ts';
import { AgentRun } from './agent-run.ts';

const [services = Number.NaN, repeats = Number.NaN] = process.argv.slice(2).map(Number);
const node = createNode({
  stateDirectory: '/var/lib/ipvs-bpf',
  // Of build/bench/, where the bundle is.
  buildDirectory: join(import.meta.dirname, '..'),
  log: new LineLogger({ level: 'warn', format: 'text' }),
});
const bundle = join(import.meta.dirname, '../../dist/agent.mjs');
process.stdout.write(`${JSON.stringify(await new AgentRun(node, services).measure(repeats, bundle))}\n`);
