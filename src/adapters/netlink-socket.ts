// SPDX-License-Identifier: Apache-2.0
/**
 * One netlink socket with one datagram in flight. The package `netlink` aborts the process if the
 * kernel overruns the socket's buffer, so requests wait for each other, few go in one datagram, and
 * no multicast group is ever joined.
 */
import { getSystemErrorName } from 'node:util';
import type { MessageInfo, RawNetlinkSocket } from 'netlink/dist/raw.js';
import type { NetlinkMessage } from 'netlink/dist/structs.js';
import { errnoError, HostError } from '../core/errors.ts';
import { deadline } from './deadline.ts';

export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;
export const NETLINK_GENERIC = 16;

export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_DUMP = 0x300;

const NLM_F_REQUEST = 0x1;
const NLM_F_ACK = 0x4;
const NLM_F_DUMP_INTR = 0x10;
const NLMSG_NOOP = 1;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const DUMP_TRIES = 5;
const TIMEOUT_MS = 10_000;
const RECEIVE_BUFFER_BYTES = 1 << 20;
const SEND_BUFFER_BYTES = 1 << 17;
/** Their answers have to fit into the least receive buffer that a socket gets, of 200 KiB: each takes about 1 KiB. */
const REQUESTS_PER_DATAGRAM = 32;

export interface NetlinkRequest {
  /** Said in errors: "add link x". */
  readonly action: string;
  readonly type: number;
  /** NLM_F_* beyond REQUEST and ACK. */
  readonly flags?: number;
  /** Payload behind the netlink header. */
  readonly data: Uint8Array;
}

interface Reply {
  readonly messages: readonly NetlinkMessage[];
  /** 0, or negative. */
  readonly errno: number;
}

interface Open {
  readonly raw: RawNetlinkSocket;
  readonly format: typeof import('netlink/dist/structs.js').formatMessage;
  readonly parse: typeof import('netlink/dist/structs.js').parseMessages;
}

/** A netlink attribute that was received. */
export interface Attribute {
  readonly type: number;
  readonly data: Buffer;
}

/** Bytes of one attribute (struct nlattr), padded to 4. Integers are the caller's: host byte order unless it says so. */
export function attribute(type: number, data: Uint8Array | readonly Uint8Array[]): Uint8Array {
  const body = data instanceof Uint8Array ? data : Buffer.concat(data);
  const length = 4 + body.length;
  const out = Buffer.alloc((length + 3) & ~3);
  out.writeUInt16LE(length, 0);
  out.writeUInt16LE(type, 2);
  out.set(body, 4);
  return out;
}

const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;

/** An attribute that holds attributes. */
export function nested(type: number, children: readonly Uint8Array[]): Uint8Array {
  return attribute(type | NLA_F_NESTED, children);
}

export function attributeUint8(type: number, value: number): Uint8Array {
  return attribute(type, Uint8Array.of(value));
}

export function attributeUint16(type: number, value: number): Uint8Array {
  const data = Buffer.alloc(2);
  data.writeUInt16LE(value);
  return attribute(type, data);
}

/** Network byte order. */
export function attributeUint16be(type: number, value: number): Uint8Array {
  const data = Buffer.alloc(2);
  data.writeUInt16BE(value);
  return attribute(type, data);
}

export function attributeUint32(type: number, value: number): Uint8Array {
  const data = Buffer.alloc(4);
  data.writeUInt32LE(value >>> 0);
  return attribute(type, data);
}

/** Network byte order. */
export function attributeUint32be(type: number, value: number): Uint8Array {
  const data = Buffer.alloc(4);
  data.writeUInt32BE(value >>> 0);
  return attribute(type, data);
}

/** A string with its final zero byte. */
export function attributeString(type: number, value: string): Uint8Array {
  return attribute(type, Buffer.from(`${value}\0`));
}

/** The attributes in `data`, by type; of several with one type the last. Throws HostError if a length is wrong. */
export function attributes(data: Buffer): ReadonlyMap<number, Buffer> {
  const out = new Map<number, Buffer>();
  let at = 0;
  while (at + 4 <= data.length) {
    const length = data.readUInt16LE(at);
    if (length < 4 || at + length > data.length) {
      throw new HostError(`netlink attribute of ${length} bytes at ${at} of ${data.length}`, {
        code: 'MalformedReply',
      });
    }
    out.set(data.readUInt16LE(at + 2) & NLA_TYPE_MASK, data.subarray(at + 4, at + length));
    at += (length + 3) & ~3;
  }
  return out;
}

/** A string attribute without what follows its first zero byte. */
export function stringOf(data: Buffer): string {
  const end = data.indexOf(0);
  return data.toString('utf8', 0, end < 0 ? data.length : end);
}

export class NetlinkSocket {
  readonly #protocol: number;
  #open: Promise<Open> | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #sequence = 1;

  /** Opened by the first request, in the network namespace that the process is in then. */
  constructor(protocol: number) {
    this.#protocol = protocol;
  }

  /**
   * Sends a request when all before it are answered. Answers the payloads of the reply's messages
   * (none for a plain acknowledgement). Throws HostError with the errno's name.
   */
  request(request: NetlinkRequest): Promise<readonly Buffer[]> {
    return this.#inTurn(() => this.#requestAgain(request));
  }

  /**
   * Sends requests that are only acknowledged, many in a datagram; the kernel handles them in their order, whether
   * those before succeeded or not. Answers for each the HostError of its failure, or undefined.
   */
  requestAll(requests: readonly NetlinkRequest[]): Promise<readonly (HostError | undefined)[]> {
    return this.#inTurn(async () => {
      const out: (HostError | undefined)[] = [];
      for (let at = 0; at < requests.length; at += REQUESTS_PER_DATAGRAM) {
        const some = requests.slice(at, at + REQUESTS_PER_DATAGRAM);
        const replies = await this.#exchange(some);
        out.push(...replies.map((reply, index) => failureOf(reply, some[index]?.action ?? '')));
      }
      return out;
    });
  }

  /** Closes the socket after the requests that wait; the next request opens another. */
  async close(): Promise<void> {
    await this.#last;
    const open = this.#open;
    this.#open = undefined;
    if (open !== undefined) (await open).raw.close();
  }

  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(act);
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  /** A dump during which the table changed may have holes: the kernel says so and it is made again. */
  async #requestAgain(request: NetlinkRequest): Promise<readonly Buffer[]> {
    for (let tries = 1; tries <= DUMP_TRIES; tries += 1) {
      const [reply = { messages: [], errno: 0 }] = await this.#exchange([request]);
      const failure = failureOf(reply, request.action);
      if (failure !== undefined) throw failure;
      if (reply.messages.every((message) => (message.flags & NLM_F_DUMP_INTR) === 0)) {
        return reply.messages.filter((message) => message.type !== NLMSG_DONE).map((message) => message.data);
      }
    }
    throw errnoError(request.action, 'EINTR');
  }

  /** One datagram with all requests; their replies, in the same order. */
  async #exchange(requests: readonly NetlinkRequest[]): Promise<readonly Reply[]> {
    this.#open ??= openSocket(this.#protocol);
    const open = await this.#open;
    const { port } = open.raw.address();
    const sequences: number[] = [];
    const bytes: Uint8Array[] = [];
    for (const { type, flags = 0, data } of requests) {
      const seq = this.#nextSequence();
      sequences.push(seq);
      bytes.push(...open.format({ type, flags: flags | NLM_F_REQUEST | NLM_F_ACK, seq, port, data }));
    }
    open.raw.ref();
    try {
      return await receive(open, { sequences, action: requests[0]?.action ?? '', bytes });
    } catch (error) {
      // The kernel may not be done with it, and refuses another dump by the same socket until then.
      this.#open = undefined;
      open.raw.close();
      throw error;
    } finally {
      if (this.#open !== undefined) open.raw.unref();
    }
  }

  #nextSequence(): number {
    const seq = this.#sequence;
    this.#sequence = (seq % 0x7fffffff) + 1;
    return seq;
  }
}

function failureOf({ errno }: Reply, action: string): HostError | undefined {
  return errno === 0 ? undefined : errnoError(action, errnoName(errno));
}

async function openSocket(protocol: number): Promise<Open> {
  const [{ RawNetlinkSocket: Raw }, { formatMessage, parseMessages }] = await Promise.all([
    import('netlink/dist/raw.js'),
    import('netlink/dist/structs.js'),
  ]);
  const raw = new Raw(protocol, { recvBufferSize: RECEIVE_BUFFER_BYTES, sendBufferSize: SEND_BUFFER_BYTES });
  raw.unref();
  return { raw, format: formatMessage, parse: parseMessages };
}

interface Datagram {
  readonly sequences: readonly number[];
  /** Said in errors. */
  readonly action: string;
  readonly bytes: Uint8Array[];
}

/**
 * Sends, and collects messages until each request has its acknowledgement or the end of its dump. Rejects if the kernel
 * says nothing for TIMEOUT_MS.
 */
function receive(open: Open, { sequences, action, bytes }: Datagram): Promise<readonly Reply[]> {
  return new Promise((resolve, reject) => {
    const replies = new Replies(sequences);
    const onError = (error: Error): void => end(() => reject(errnoError(action, sendErrno(error), error)));
    const onMessage = (datagram: Buffer, from: MessageInfo): void => {
      if (from.port !== 0) return; // only the kernel answers
      cancel();
      cancel = waitForMore();
      try {
        for (const message of open.parse(datagram)) replies.add(message);
        if (replies.complete) end(() => resolve(replies.all()));
      } catch (cause) {
        const message = `${action}: malformed netlink reply`;
        end(() => reject(new HostError(message, { code: 'MalformedReply', cause })));
      }
    };
    const tooLate = { code: 'NetlinkError', retry: true } as const;
    const waitForMore = (): (() => void) =>
      deadline(TIMEOUT_MS, () =>
        end(() => reject(new HostError(`${action}: no answer from the kernel`, tooLate))),
      );
    let cancel = waitForMore();
    const end = (act: () => void): void => {
      cancel();
      open.raw.off('message', onMessage);
      open.raw.off('error', onError);
      act();
    };
    open.raw.on('message', onMessage);
    open.raw.on('error', onError);
    open.raw.send(bytes, {}, (error) => {
      if (error !== undefined) onError(error);
    });
  });
}

/** What came of the replies to some requests, by sequence number. */
class Replies {
  readonly #bySequence: ReadonlyMap<number, { readonly messages: NetlinkMessage[]; errno?: number }>;
  #open: number;

  constructor(sequences: readonly number[]) {
    this.#bySequence = new Map(sequences.map((sequence) => [sequence, { messages: [] }]));
    this.#open = sequences.length;
  }

  get complete(): boolean {
    return this.#open === 0;
  }

  /** A message that answers none of the requests, as one that came too late for a former one, says nothing. */
  add(message: NetlinkMessage): void {
    const reply = this.#bySequence.get(message.seq);
    if (reply === undefined || reply.errno !== undefined || message.type === NLMSG_NOOP) return;
    const errno = finalErrno(message);
    if (errno === undefined || message.type === NLMSG_DONE) reply.messages.push(message);
    if (errno === undefined) return;
    reply.errno = errno;
    this.#open -= 1;
  }

  all(): readonly Reply[] {
    return [...this.#bySequence.values()].map(({ messages, errno = 0 }) => ({ messages, errno }));
  }
}

/** The errno that ends a reply (0 for success, or negative), or undefined if more follows. */
function finalErrno(message: NetlinkMessage): number | undefined {
  if (message.type === NLMSG_ERROR) return message.data.readInt32LE(0);
  if (message.type !== NLMSG_DONE) return undefined;
  return message.data.length >= 4 ? message.data.readInt32LE(0) : 0;
}

function errnoName(errno: number): string {
  try {
    return getSystemErrorName(errno);
  } catch (error) {
    if (error instanceof RangeError) return `errno ${-errno}`;
    throw error;
  }
}

function sendErrno(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}
