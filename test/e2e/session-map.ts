// SPDX-License-Identifier: Apache-2.0
/** What the pinned maps of a node have, read without any program of ours there. */
import { decodeService, decodeServiceKey, sessionServiceId } from '../../src/core/abi.ts';
import { endText } from '../../src/core/addresses.ts';
import { session } from './fixture.ts';

/** As bpftool prints an entry. */
interface Entry {
  readonly key: readonly string[];
  readonly value: readonly string[];
}

async function entriesOf(node: string, map: string): Promise<readonly Entry[]> {
  return JSON.parse(
    await session.onNode(node, `bpftool -j map dump pinned /sys/fs/bpf/ipvs-bpf/${map}`),
  ) as readonly Entry[];
}

const bytes = (hex: readonly string[]): Uint8Array => Uint8Array.from(hex, Number);

/** "SCTP 10.96.0.10:80" of each entry of the whitelist → its sessions. */
export async function sessionsByServer(node: string): Promise<ReadonlyMap<string, number>> {
  const sessions = await entriesOf(node, 'ipvs_sessions');
  const ids = sessions.map(({ key }) => sessionServiceId(bytes(key)));
  const services = await entriesOf(node, 'ipvs_services');
  return new Map(
    services.map(({ key, value }) => {
      const { protocol, address, port } = decodeServiceKey(bytes(key));
      const { id: own } = decodeService(bytes(value));
      return [`${protocol} ${endText(address, port)}`, ids.filter((id) => id === own).length];
    }),
  );
}
