// SPDX-License-Identifier: Apache-2.0
/**
 * The programs on devices whose packets begin differently, with the kernel's own stack on both ends:
 *
 *   client 198.51.100.7, 2001:db8:c::7 (lo), SNAT address NET.1  ──DEVICE──  NET.2 real server (namespace rs)
 *
 * The real server has no route to the client: what leaves untranslated stays without an answer.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { attachTc, createClsact, destroyClsact, openObject } from 'libbpf-ts';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { mappedBytes } from '../../src/core/abi.ts';
import { compile } from './compile.ts';
import { type Counts, Datapath, difference } from './datapath.ts';
import { type End, filler, type Transport } from './packet.ts';
import { client as client4 } from './scene.ts';

const RS = 'rs';
const ECHO_PORT = 7000;
const CLOSED_PORT = 7001;

interface Device {
  readonly title: string;
  readonly name: string;
  /** First three numbers of its network, or all that is left of the last one. */
  readonly net: string;
  /** Its programs run on these devices too: every packet passes them twice. */
  readonly below: readonly string[];
}

const devices: readonly Device[] = [
  { title: 'Ethernet', name: 'eth', net: '10.77.0.', below: [] },
  { title: 'a VLAN device', name: 'eth.5', net: '10.77.5.', below: ['eth'] },
  { title: 'a VLAN device that writes its tag in line', name: 'eth.6', net: '10.77.6.', below: ['eth'] },
  { title: 'a device without link header', name: 'ipip', net: '10.77.7.', below: [] },
  { title: 'Ethernet with IPv6', name: 'eth', net: 'fd77:1::', below: [] },
  { title: 'a VLAN device with IPv6', name: 'eth.5', net: 'fd77:5::', below: ['eth'] },
  {
    title: 'a VLAN device with IPv6 that writes its tag in line',
    name: 'eth.6',
    net: 'fd77:6::',
    below: ['eth'],
  },
  { title: 'a device without link header with IPv6', name: 'sit', net: 'fd77:7::', below: [] },
];

const isIpv6 = (address: string) => address.includes(':');
const client6: End = { address: '2001:db8:c::7', port: client4.port };
const clientOf = ({ net }: Device): End => (isIpv6(net) ? client6 : client4);

function ip(...args: string[]): string {
  return execFileSync('ip', args, { encoding: 'utf8' });
}

function ifindexOf(name: string): number {
  const [{ ifindex }] = JSON.parse(ip('-json', 'link', 'show', name)) as [{ ifindex: number }];
  return ifindex;
}

/** The same on both sides, with the last number of the address swapped. */
function build(netns: string, own: 1 | 2, link: string): void {
  const peer = own === 1 ? 2 : 1;
  const inside = (...args: string[]) => ip('-n', netns, ...args);
  inside('link', 'set', 'lo', 'up');
  inside('link', 'set', link, 'name', 'eth', 'up');
  const flag = { 5: 'on', 6: 'off' };
  for (const [id, reorder] of Object.entries(flag)) {
    inside('link', 'add', `eth.${id}`, 'link', 'eth', 'type', 'vlan', 'id', id, 'reorder_hdr', reorder);
  }
  const ends = ['local', `10.77.0.${own}`, 'remote', `10.77.0.${peer}`];
  inside('link', 'add', 'ipip', 'type', 'ipip', ...ends);
  inside('link', 'add', 'sit', 'type', 'sit', ...ends);
  for (const { name, net } of devices) {
    const address = isIpv6(net)
      ? [`${net}${own}/64`, 'dev', name, 'nodad']
      : [`${net}${own}/24`, 'dev', name];
    inside('address', 'add', ...address);
    inside('link', 'set', name, 'up');
  }
}

let object: string;
let servers: ChildProcess[] = [];
let datapath: Datapath;

/** Says who it talks to, then returns what it gets: no more than a pipe holds, or ncat waits for itself. */
async function startServers(): Promise<void> {
  for (const flags of [
    ['-k', '-4'],
    ['-k', '-4', '-u'],
    ['-k', '-6'],
    ['-k', '-6', '-u'],
  ]) {
    const answer = 'echo "$NCAT_REMOTE_ADDR $NCAT_REMOTE_PORT"; exec cat';
    const listen = ['ncat', '-l', ...flags, '-p', String(ECHO_PORT), '-c', answer];
    servers.push(spawn('ip', ['netns', 'exec', RS, ...listen], { stdio: 'ignore' }));
  }
  const listening = () => execFileSync('ss', ['-N', RS, '-Hltun'], { encoding: 'utf8' }).trim().split('\n');
  while (listening().length < 4) await sleep(50);
}

beforeAll(async () => {
  object = compile(join(import.meta.dirname, 'hint.bpf.c'));
  ip('netns', 'add', RS);
  ip('netns', 'attach', 'director', String(process.pid));
  ip('link', 'add', 'a0', 'type', 'veth', 'peer', 'name', 'b0', 'netns', RS);
  build(RS, 2, 'b0');
  build('director', 1, 'a0');
  ip('address', 'add', `${client4.address}/32`, 'dev', 'lo');
  ip('address', 'add', `${client6.address}/128`, 'dev', 'lo', 'nodad');
  await startServers();
});

afterAll(() => {
  for (const server of servers) server.kill();
  servers = [];
  ip('link', 'delete', 'eth');
  ip('link', 'delete', 'ipip');
  ip('link', 'delete', 'sit');
  ip('address', 'delete', `${client4.address}/32`, 'dev', 'lo');
  ip('address', 'delete', `${client6.address}/128`, 'dev', 'lo');
  ip('netns', 'delete', 'director');
  ip('netns', 'delete', RS);
  rmSync(dirname(object), { recursive: true });
});

function attachAll(tested: Device): void {
  const { name, net, below } = tested;
  const hint = openObject(object);
  const bytes = Buffer.from(mappedBytes(clientOf(tested).address));
  hint.setGlobal('hint_client', { w: [0, 4, 8, 12].map((offset) => bytes.readUInt32LE(offset)) });
  const loaded = hint.load();
  datapath = new Datapath();
  datapath.addSnatAddress(1, `${net}1`, ifindexOf(name));
  for (const device of [name, ...below]) {
    const ifindex = ifindexOf(device);
    createClsact(ifindex);
    const ours = datapath.object;
    if (device === name) {
      attachTc(loaded.program('leave_hint'), { ifindex, direction: 'egress', priority: 1 });
    }
    attachTc(ours.program('ipvs_tc_egress'), { ifindex, direction: 'egress', priority: 2 });
    attachTc(ours.program('ipvs_tc_ingress'), { ifindex, direction: 'ingress', priority: 2 });
  }
  loaded.close();
}

function detachAll({ name, below }: Device): void {
  for (const device of [name, ...below]) destroyClsact(ifindexOf(device));
  datapath[Symbol.dispose]();
}

/** InCsumErrors of a protocol in the text of /proc/net/snmp. */
function checksumErrorsIn(text: string, protocol: Transport): number {
  const prefix = protocol === 'TCP' ? 'Tcp: ' : 'Udp: ';
  const [names = '', values = ''] = text.split('\n').filter((line) => line.startsWith(prefix));
  const column = names.split(' ').indexOf('InCsumErrors');
  return Number(values.split(' ')[column]);
}

/** Those of UDP over IPv6, in the text of /proc/net/snmp6; TCP counts both together. */
function udp6ChecksumErrorsIn(text: string): number {
  return Number(/^Udp6InCsumErrors\s+(\d+)$/m.exec(text)?.[1]);
}

/** Of TCP and UDP, in both namespaces. */
function checksumErrors(): number {
  const texts = (file: string) => [readFileSync(file, 'utf8'), ip('netns', 'exec', RS, 'cat', file)];
  return [
    ...texts('/proc/net/snmp').flatMap((text) => [
      checksumErrorsIn(text, 'TCP'),
      checksumErrorsIn(text, 'UDP'),
    ]),
    ...texts('/proc/net/snmp6').map(udp6ChecksumErrorsIn),
  ].reduce((sum, errors) => sum + errors);
}

async function tcpEcho(from: End, to: End, payload: Uint8Array): Promise<Buffer> {
  const socket = createConnection({
    host: to.address,
    port: to.port,
    localAddress: from.address,
    localPort: from.port,
  });
  let answer = Buffer.alloc(0);
  socket.write(payload);
  // Not end(): the server stops when its input does, with what it has not sent yet.
  for await (const part of socket) {
    answer = Buffer.concat([answer, part as Buffer]);
    if (answer.length >= answer.indexOf('\n') + 1 + payload.length) break;
  }
  return answer;
}

async function udpEcho(from: End, to: End, payload: Uint8Array): Promise<Buffer> {
  const socket = createSocket(isIpv6(to.address) ? 'udp6' : 'udp4');
  try {
    socket.bind(from.port, from.address);
    await once(socket, 'listening');
    socket.connect(to.port, to.address);
    await once(socket, 'connect');
    const parts: Buffer[] = [];
    const both = new Promise<void>((resolve, reject) => {
      socket.on('error', reject);
      socket.on('message', (part) => {
        parts.push(part);
        if (parts.length === 2) resolve();
      });
    });
    socket.send(payload);
    await both;
    return Buffer.concat(parts);
  } finally {
    socket.close();
  }
}

describe.each(devices)('on $title', (device) => {
  const real = (port: number): End => ({ address: `${device.net}2`, port });
  const client = clientOf(device);
  let before: Counts;
  beforeAll(() => attachAll(device));
  afterAll(() => detachAll(device));
  beforeEach(() => {
    before = datapath.counted();
  });

  it.each([
    { transport: 'TCP' as Transport, echo: tcpEcho, size: 50_000, offload: 'on' },
    { transport: 'TCP' as Transport, echo: tcpEcho, size: 50_000, offload: 'off' },
    { transport: 'UDP' as Transport, echo: udpEcho, size: 1, offload: 'on' },
    { transport: 'UDP' as Transport, echo: udpEcho, size: 1000, offload: 'off' },
  ])(
    'a $transport conversation works, tx checksum offload $offload',
    async ({ transport, echo, size, offload }) => {
      execFileSync('ethtool', ['-K', 'eth', 'tx', offload], { stdio: 'ignore' });
      const from = { ...client, port: client.port + Math.floor(Math.random() * 20000) };
      const key = datapath.addSession({ client: from, real: real(ECHO_PORT), transport });
      const errors = checksumErrors();
      const payload = filler(size);

      const answer = await echo(from, real(ECHO_PORT), payload);

      const { port, addressId } = datapath.snatEnd(key);
      const greeting = `${device.net}1 ${port}\n`;
      expect(addressId).toBe(1);
      expect(answer.subarray(0, greeting.length).toString()).toBe(greeting);
      expect(Buffer.compare(answer.subarray(greeting.length), payload)).toBe(0);
      expect(checksumErrors()).toBe(errors);
      const counted = difference(datapath.counted(), before);
      expect(Object.keys(counted).sort()).toEqual(['SNAT', 'SNAT_REVERSED']);
    },
  );

  it('an ICMP error of the real server reaches the socket that it is for', async () => {
    const from = { ...client, port: client.port + Math.floor(Math.random() * 20000) };
    datapath.addSession({ client: from, real: real(CLOSED_PORT), transport: 'UDP' });
    await expect(udpEcho(from, real(CLOSED_PORT), filler(10))).rejects.toMatchObject({
      code: 'ECONNREFUSED',
    });
    expect(difference(datapath.counted(), before)).toEqual({ SNAT: 1, ICMP_INGRESS: 1 });
  });
});
