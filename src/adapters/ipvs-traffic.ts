// SPDX-License-Identifier: Apache-2.0
/** The counters of IPVS: those of virtual servers by generic netlink, connections from /proc/net/ip_vs. */
import { isNotFound } from '../core/errors.ts';
import type { IpvsTraffic, VirtualServerTraffic } from '../traffic-ports.ts';
import { GenericFamily } from './generic-netlink.ts';
import { decodeTotals, decodeVirtualServer } from './ipvs-codec.ts';
import { listingKey, readConnectionCounts } from './ipvs-listing.ts';
import { NLM_F_DUMP } from './netlink-socket.ts';

const CMD_GET_SERVICE = 4;

export class NetlinkIpvsTraffic implements IpvsTraffic {
  readonly #family = new GenericFamily('IPVS', 1);

  async read(): Promise<readonly VirtualServerTraffic[]> {
    const messages = await this.#messages();
    const connections = await readConnectionCounts();
    return messages.flatMap((message): VirtualServerTraffic[] => {
      const server = decodeVirtualServer(message);
      const key = listingKey(server);
      if (key === undefined) return [];
      return [{ server, totals: decodeTotals(message), connections: connections.get(key) ?? 0 }];
    });
  }

  async #messages(): Promise<readonly Buffer[]> {
    try {
      return await this.#family.use(({ request }) =>
        request({ action: 'list virtual servers', command: CMD_GET_SERVICE, flags: NLM_F_DUMP }),
      );
    } catch (error) {
      // Without the module there is no table, and nothing goes through it.
      if (isNotFound(error)) return [];
      throw error;
    }
  }
}
