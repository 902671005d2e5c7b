// SPDX-License-Identifier: Apache-2.0
/** How many connections went the accelerated way. Without this a policy without effect would pass every test. */
import { run } from '../../scripts/exec.ts';
import { COUNTERS } from '../../src/core/abi.ts';
import { channelBinary } from '../cluster/channel.ts';
import { addresses, type Layout, nodeIdentities } from '../cluster/layout.ts';
import { insideOf } from '../cluster/network.ts';

interface MapEntry {
  /** Bytes as the machine has them, the lowest first: `["0x06","0x00","0x00","0x00"]`. */
  readonly key: readonly string[];
  readonly values: readonly { readonly value: readonly string[] }[];
}

/**
 * Connections that the module gave to the programs, of all processors.
 * @param dump what `bpftool -j map dump name ipvs_counters` prints
 */
export function acceleratedConnections(dump: string): number {
  const index = COUNTERS.indexOf('SessionAdded');
  const entry = (JSON.parse(dump) as readonly MapEntry[]).find(({ key }) => littleEndian(key) === index);
  if (entry === undefined) throw new Error(`the counters have no entry ${index}`);
  return entry.values.reduce((sum, { value }) => sum + littleEndian(value), 0);
}

/** Sum over the first `nodes` nodes. @throws Error when one of them runs no programs */
export async function readAcceleratedConnections(layout: Layout, nodes: number): Promise<number> {
  const counts = await Promise.all(
    nodeIdentities(nodes).map(async ({ address }) => {
      const channel = [await channelBinary(), 'run', address, String(addresses.commandPort)];
      const dump = ['bpftool', '-j', 'map', 'dump', 'name', 'ipvs_counters'];
      const [program, ...args] = insideOf(layout.netns, [...channel, ...dump]);
      return acceleratedConnections(await run(program, args, { timeoutMs: 60_000 }));
    }),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}

function littleEndian(bytes: readonly string[]): number {
  return bytes.reduceRight((value, byte) => value * 256 + Number(byte), 0);
}
