// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import koffi from 'koffi';
import { inject } from 'vitest';
import { FileDescriptor } from '../../src/fd.ts';
import { BpfError, type BpfObject, openObject } from '../../src/index.ts';

/** Path of a compiled test/bpf/NAME.bpf.c. */
export function objectPath(name: string): string {
  return join(inject('objects'), `${name}.o`);
}

export function loadBasic(): BpfObject {
  return openObject(objectPath('basic')).load();
}

/** A pair of veth interfaces that ends with the block that has it. */
export class VethPair implements Disposable {
  readonly name: string;
  readonly ifindex: number;

  constructor(name: string) {
    this.name = name;
    ip('link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}-peer`);
    ip('link', 'set', name, 'up');
    ip('link', 'set', `${name}-peer`, 'up');
    this.ifindex = linkIndex(name);
  }

  /** Receives an Ethernet frame of protocol 0x88b5 (for experiments) on the interface. */
  receive(): void {
    sendFrame(linkIndex(`${this.name}-peer`), Buffer.from(`${'ff'.repeat(12)}88b5${'00'.repeat(50)}`, 'hex'));
  }

  [Symbol.dispose](): void {
    ip('link', 'delete', this.name);
  }
}

function linkIndex(name: string): number {
  const [link] = JSON.parse(ip('-json', 'link', 'show', name)) as { ifindex: number }[];
  if (link === undefined) throw new Error(`no link ${name}`);
  return link.ifindex;
}

const libc = koffi.load('libc.so.6');
const socket = libc.func('int socket(int family, int type, int protocol)');
const sendto = libc.func('long sendto(int fd, void *data, size_t n, int flags, void *to, uint32_t len)');

/** Sends an Ethernet frame out of an interface through a packet socket. */
function sendFrame(ifindex: number, frame: Uint8Array): void {
  const [AF_PACKET, SOCK_RAW] = [17, 3];
  using fd = new FileDescriptor(socket(AF_PACKET, SOCK_RAW, 0), 'packet socket', { owned: true });
  // struct sockaddr_ll
  const to = new Uint8Array(20);
  new DataView(to.buffer).setUint16(0, AF_PACKET, true);
  new DataView(to.buffer).setInt32(4, ifindex, true);
  const sent: number = sendto(fd.value, frame, frame.length, 0, to, to.length);
  if (sent !== frame.length) throw new Error(`sendto: ${sent}, errno ${koffi.errno()}`);
}

function ip(...args: string[]): string {
  return execFileSync('ip', args, { encoding: 'utf8' });
}

/** The BpfError that `body` throws. */
export function bpfError(body: () => unknown): BpfError {
  try {
    body();
  } catch (error) {
    if (error instanceof BpfError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}
