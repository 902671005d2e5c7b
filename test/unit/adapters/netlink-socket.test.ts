// SPDX-License-Identifier: Apache-2.0
import { EventEmitter } from 'node:events';
import { formatMessage } from 'netlink/dist/structs.js';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { NETLINK_GENERIC, NetlinkSocket, NLM_F_DUMP } from '../../../src/adapters/netlink-socket.ts';

/** Sockets in the order in which they were opened. */
const sockets = vi.hoisted(() => [] as SilentSocket[]);

/** One whose kernel says only what a test has it say. */
class SilentSocket extends EventEmitter {
  readonly sent: Buffer[] = [];
  closed = false;
  constructor() {
    super();
    sockets.push(this);
  }
  address = () => ({ port: 7 });
  ref = () => this;
  unref = () => this;
  send(bytes: Uint8Array[]): void {
    this.sent.push(Buffer.concat(bytes));
  }
  close(): void {
    this.closed = true;
  }
  /** A message that answers the request that was sent last. */
  answer(type: number, data: Uint8Array): void {
    const seq = this.sent.at(-1)?.readUInt32LE(8) ?? 0;
    const parts = formatMessage({ type, flags: 0, seq, port: 0, data });
    this.emit('message', Buffer.concat(parts), { port: 0 });
  }
}

vi.mock('netlink/dist/raw.js', () => ({ RawNetlinkSocket: SilentSocket }));

const DONE = 3;
const FAMILY = 0x20;
const DUMP = { action: 'list families', type: FAMILY, flags: NLM_F_DUMP, data: Uint8Array.of(1, 0, 0, 0) };
const END = new Uint8Array(4);

beforeEach(() => {
  vi.useFakeTimers();
  sockets.length = 0;
  return () => vi.useRealTimers();
});

describe('a netlink socket', () => {
  it('whose kernel has fallen silent is given up, and the next request has another', async () => {
    const socket = new NetlinkSocket(NETLINK_GENERIC);
    const first = expect(socket.request(DUMP)).rejects.toMatchObject({ code: 'NetlinkError' });
    await vi.advanceTimersByTimeAsync(10_001);
    await first;
    // The kernel would refuse another dump by the same one: it is not done with this one.
    expect(sockets).toMatchObject([{ closed: true }]);
    const second = socket.request(DUMP);
    await vi.advanceTimersByTimeAsync(1);
    sockets[1]?.answer(DONE, END);
    expect(await second).toEqual([]);
    expect(sockets).toMatchObject([{ closed: true }, { closed: false }]);
  });

  it('waits for a long dump as long as parts of it come', async () => {
    const socket = new NetlinkSocket(NETLINK_GENERIC);
    const dump = socket.request(DUMP);
    for (let part = 0; part < 5; part += 1) {
      await vi.advanceTimersByTimeAsync(8_000);
      sockets[0]?.answer(FAMILY, Uint8Array.of(part, 0, 0, 0));
    }
    sockets[0]?.answer(DONE, END);
    expect((await dump).map((data) => data[0])).toEqual([0, 1, 2, 3, 4]);
    expect(sockets).toMatchObject([{ closed: false }]);
  });
});
