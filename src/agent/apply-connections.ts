// SPDX-License-Identifier: Apache-2.0
/**
 * Carries connections through an exchange of modules. Packets are held back meanwhile, so that neither the host nor a
 * client answers what ip_vs is not there to translate. What connection tracking translates goes on as it was; what a
 * session translated is made known to it first, and goes on natively. A failure costs connections, never the exchange.
 */
import type { Disruption } from '../core/facts.ts';
import { addressInLine, virtualOf, withStates } from '../core/ipvs-sync.ts';
import { ALL_TEST_ADDRESSES } from '../core/self-check-network.ts';
import { serverEnds } from '../core/virtual-servers.ts';
import { messageOf } from './ladder.ts';
import type { NodePorts } from './observe.ts';

/** An exchange takes a tenth of it. Who sends again after it is refused, as without a module. */
const HOLD_MS = 15_000;
/** More are not worth the memory, and the time without an answer. */
const MAX_CONNECTIONS = 200_000;
/** Their connections end with them. */
const OF_PROBES: ReadonlySet<string | undefined> = new Set(
  ALL_TEST_ADDRESSES.map(({ virtual }) => addressInLine(virtual)),
);

/** Nothing is held before maps are pinned. */
export async function holdTraffic({ ipvs, datapath }: NodePorts): Promise<void> {
  if (!(await ipvs.available()) || (await datapath.state()) === undefined) return;
  await datapath.hold(serverEnds(await ipvs.virtualServers()), HOLD_MS);
}

/** Before anything is held: what is done then need not be done while nobody is answered. */
export async function trackSessions({ connections, datapath }: NodePorts): Promise<void> {
  if ((await datapath.state()) === undefined) return;
  // What goes wrong is said when it is done again.
  await attempt(async () => {
    const sessions = await datapath.sessionEnds();
    await connections.track(withStates(sessions, sessions.length > 0 ? await connections.list() : []));
  });
}

/** Writes the connections down, and has connection tracking take over those that are accelerated. */
export async function saveConnections({ connections, datapath, records, host }: NodePorts): Promise<void> {
  const all = await connections.list();
  const lines = all.filter((line) => !OF_PROBES.has(virtualOf(line)));
  const bootId = await host.bootId();
  const sessions = (await datapath.state()) === undefined ? [] : await datapath.sessionEnds();
  let untracked = sessions.length;
  const message = await attempt(async () => {
    untracked = await connections.track(withStates(sessions, all));
    if (untracked > 0)
      throw new Error(`connection tracking does not take over ${untracked} accelerated connections`);
  });
  const saved = { bootId, count: lines.length, untracked, lines: lines.slice(0, MAX_CONNECTIONS) };
  await records.writeConnections({ ...saved, ...(message === undefined ? {} : { message }) });
}

/** After the table is back. */
export async function restoreConnections({ connections, records, host }: NodePorts): Promise<void> {
  const saved = await records.readConnections();
  if (saved?.bootId !== (await host.bootId())) return;
  let restored = 0;
  const message = await attempt(async () => {
    restored = await connections.restore(saved.lines);
  });
  const { lastDisruption } = await records.read();
  if (lastDisruption === undefined) return;
  // One that nothing translates is there, and does not work.
  const connectionsDropped = Math.min(saved.count, saved.count - restored + saved.untracked);
  const messages = [saved.message, message].filter((text) => text !== undefined);
  await records.writeDisruption(withMessages({ ...lastDisruption, connectionsDropped }, messages));
}

/** Why it did not succeed. */
async function attempt(act: () => Promise<void>): Promise<string | undefined> {
  try {
    await act();
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

/** Beside what it says already. */
export function withMessages(disruption: Disruption, messages: readonly string[]): Disruption {
  if (messages.length === 0) return disruption;
  const all = [...(disruption.message === undefined ? [] : [disruption.message]), ...messages];
  return { ...disruption, message: [...new Set(all)].join(' ') };
}
