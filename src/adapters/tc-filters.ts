// SPDX-License-Identifier: Apache-2.0
/** Lists clsact qdiscs and the filters on them, by rtnetlink. */
import type { TcDirection } from '../datapath-ports.ts';
import { attributes, NETLINK_ROUTE, NetlinkSocket, NLM_F_DUMP, stringOf } from './netlink-socket.ts';

// linux/rtnetlink.h, linux/pkt_sched.h, linux/pkt_cls.h
const RTM_GETLINK = 18;
const RTM_GETQDISC = 38;
const RTM_GETTFILTER = 46;
const TCA_KIND = 1;
const TCA_OPTIONS = 2;
const TCA_BPF_NAME = 7;
const TCA_BPF_ID = 11;
const TC_H_CLSACT = 0xfffffff1;
const TC_H_PARENTS: Readonly<Record<TcDirection, number>> = { Ingress: 0xfffffff2, Egress: 0xfffffff3 };
const TCMSG_BYTES = 20;
const IFINFOMSG_BYTES = 16;

/** A filter of a clsact or ingress qdisc. `tc filter show dev DEV ingress|egress` */
export interface TcFilterEntry {
  readonly ifindex: number;
  readonly direction: TcDirection;
  /** Kind of classifier: "bpf", "flower" and so on. */
  readonly kind: string;
  readonly priority: number;
  readonly handle: number;
  /** Of a bpf filter. */
  readonly name?: string;
  readonly programId?: number;
}

export class TcFilters {
  readonly #socket = new NetlinkSocket(NETLINK_ROUTE);

  /** Indexes of all interfaces. */
  async interfaces(): Promise<readonly number[]> {
    const data = new Uint8Array(IFINFOMSG_BYTES);
    const messages = await this.#socket.request({
      action: 'list links',
      type: RTM_GETLINK,
      flags: NLM_F_DUMP,
      data,
    });
    return messages.map((message) => message.readInt32LE(4));
  }

  /** The kind of the qdisc at the clsact hook of each interface that has one: "clsact" or "ingress". */
  async qdiscs(): Promise<ReadonlyMap<number, string>> {
    const data = new Uint8Array(TCMSG_BYTES);
    const messages = await this.#socket.request({
      action: 'list qdiscs',
      type: RTM_GETQDISC,
      flags: NLM_F_DUMP,
      data,
    });
    const found = new Map<number, string>();
    for (const message of messages) {
      if (message.readUInt32LE(12) !== TC_H_CLSACT) continue;
      const kind = attributes(message.subarray(TCMSG_BYTES)).get(TCA_KIND);
      found.set(message.readInt32LE(4), kind === undefined ? '' : stringOf(kind));
    }
    return found;
  }

  /** All filters of all interfaces. */
  async filters(): Promise<readonly TcFilterEntry[]> {
    const out: TcFilterEntry[] = [];
    for (const [ifindex, kind] of await this.qdiscs()) {
      // An ingress qdisc answers with its ingress filters for either parent.
      const directions: readonly TcDirection[] = kind === 'clsact' ? ['Ingress', 'Egress'] : ['Ingress'];
      for (const direction of directions) out.push(...(await this.#filtersAt(ifindex, direction)));
    }
    return out;
  }

  async close(): Promise<void> {
    await this.#socket.close();
  }

  async #filtersAt(ifindex: number, direction: TcDirection): Promise<readonly TcFilterEntry[]> {
    const data = Buffer.alloc(TCMSG_BYTES);
    data.writeInt32LE(ifindex, 4);
    data.writeUInt32LE(TC_H_PARENTS[direction], 12);
    const action = `list filters of interface ${ifindex}`;
    const messages = await this.#socket.request({ action, type: RTM_GETTFILTER, flags: NLM_F_DUMP, data });
    return messages.flatMap((message) => parseFilter(message, direction));
  }
}

function parseFilter(message: Buffer, direction: TcDirection): TcFilterEntry[] {
  const handle = message.readUInt32LE(8);
  if (handle === 0) return []; // the classifier itself, not a filter of it
  const found = attributes(message.subarray(TCMSG_BYTES));
  const kind = stringOf(found.get(TCA_KIND) ?? Buffer.alloc(0));
  const options =
    kind === 'bpf' ? attributes(found.get(TCA_OPTIONS) ?? Buffer.alloc(0)) : new Map<number, Buffer>();
  const name = options.get(TCA_BPF_NAME);
  const programId = options.get(TCA_BPF_ID)?.readUInt32LE(0);
  return [
    {
      ifindex: message.readInt32LE(4),
      direction,
      kind,
      priority: message.readUInt32LE(16) >>> 16,
      handle,
      ...(name === undefined ? {} : { name: stringOf(name) }),
      ...(programId === undefined ? {} : { programId }),
    },
  ];
}
