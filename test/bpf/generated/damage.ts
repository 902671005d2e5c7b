// SPDX-License-Identifier: Apache-2.0
/** Frames that are cut, lengthened, overwritten, addressed otherwise, or were never a packet. */
import type { Input } from './outcome.ts';
import { ETHERNET, ETHERTYPE } from './packet.ts';
import type { Random } from './random.ts';

/** The shortest that BPF_PROG_RUN takes: with the IP header that the EtherType promises. */
export function shortest(frame: Buffer): number {
  const type = frame.readUInt16BE(12);
  if (type === ETHERTYPE.ipv4) return ETHERNET + 20;
  return type === ETHERTYPE.ipv6 ? ETHERNET + 40 : ETHERNET + 1;
}

/** A tag in line, or anything: then only what the packet begins with tells what it is. */
function withType(random: Random, frame: Buffer): Buffer {
  const type = random.oneIn(3) ? random.below(65536) : ETHERTYPE.vlan;
  return setAt(frame, 12, Buffer.from([type >> 8, type & 0xff]));
}

function setAt(frame: Buffer, at: number, bytes: Buffer): Buffer {
  const changed = Buffer.from(frame);
  bytes.copy(changed, at);
  return changed;
}

function cut(random: Random, frame: Buffer): Buffer {
  const least = Math.min(shortest(frame), frame.length);
  // Often near the end, where a header may end.
  const length = random.oneIn(2)
    ? random.between(least, frame.length)
    : frame.length - random.below(Math.min(40, frame.length - least) + 1);
  return frame.subarray(0, length);
}

/** Total or payload length. */
function withLength(random: Random, frame: Buffer): Buffer {
  const at = ETHERNET + (frame.readUInt8(ETHERNET) >> 4 === 6 ? 4 : 2);
  if (frame.length < at + 2) return frame;
  const length = random.weighted([
    [3, 0],
    [3, frame.length - ETHERNET - random.below(60) + 20],
    [2, random.below(100)],
    [1, random.below(65536)],
  ]);
  const changed = Buffer.from(frame);
  changed.writeUInt16BE(Math.min(Math.max(length, 0), 65535), at);
  return changed;
}

function overwritten(random: Random, frame: Buffer): Buffer {
  const changed = Buffer.from(frame);
  const last = random.oneIn(2) ? Math.min(frame.length, 80) : frame.length;
  for (let i = random.between(1, 3); i > 0; i -= 1) {
    const at = random.between(ETHERNET, last - 1);
    changed[at] = random.oneIn(2) ? random.word() & 0xff : (changed[at] ?? 0) ^ (1 << random.below(8));
  }
  return changed;
}

/** What says how long the IP or the TCP header is, or what version that has. */
function withNibble(random: Random, frame: Buffer): Buffer {
  const behindIp = ETHERNET + (frame.readUInt8(ETHERNET) >> 4 === 6 ? 40 : 20);
  const at = random.oneIn(2) ? ETHERNET : behindIp + 12;
  if (at >= frame.length) return frame;
  const [value, byte] = [random.oneIn(2) ? 0 : random.below(16), frame.readUInt8(at)];
  // The version, and the data offset of TCP, are the high one.
  const isHigh = at !== ETHERNET || random.oneIn(2);
  return setAt(frame, at, Buffer.from([isHigh ? (byte & 0x0f) | (value << 4) : (byte & 0xf0) | value]));
}

function garbage(random: Random, frame: Buffer): Buffer {
  const kept = random.oneIn(2) ? ETHERNET : random.between(ETHERNET, frame.length);
  const bytes = Buffer.concat([frame.subarray(0, kept), random.bytes(random.below(120))]);
  const missing = shortest(bytes) - bytes.length;
  const whole = missing > 0 ? Buffer.concat([bytes, random.bytes(missing)]) : bytes;
  // Random bytes are hardly ever IP.
  if (!random.oneIn(4)) whole[ETHERNET] = frame[ETHERNET] ?? 0;
  return whole;
}

const toAnother = (random: Random, frame: Buffer) => setAt(frame, 0, random.bytes(6));

/** The same packet after what may happen to it. */
export function damaged(random: Random, input: Input): Input {
  if (!random.oneIn(3)) return input;
  let { frame } = input;
  for (let i = random.oneIn(4) ? 2 : 1; i > 0; i -= 1) {
    const damage = random.weighted([
      [6, cut],
      [4, withLength],
      [6, overwritten],
      [2, withNibble],
      [1, garbage],
      [1, toAnother],
      [2, withType],
      [2, (_: Random, bytes: Buffer) => Buffer.concat([bytes, random.bytes(random.between(1, 30))])],
    ]);
    frame = damage(random, frame);
  }
  const missing = shortest(frame) - frame.length;
  return { ...input, frame: missing > 0 ? Buffer.concat([frame, random.bytes(missing)]) : frame };
}
