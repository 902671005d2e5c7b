// SPDX-License-Identifier: Apache-2.0
/** A difference, and what a run has covered, for people. */
import { inspect } from 'node:util';
import { HINT_MAGIC } from '../datapath.ts';
import { WRONG_SUM } from './kernel.ts';
import { type Address, MAPPED, type Maps, type Path, type Session } from './maps.ts';
import { ETHERNET, isPacket, readPacket } from './packet.ts';
import type { Difference, Stage, Tally } from './runner.ts';

/** A run of so many packets has seen every outcome. */
const ENOUGH_FOR_ALL = 20_000;

function addressText(address: Address): string {
  if (address.startsWith(MAPPED)) return [...Buffer.from(address.slice(24), 'hex')].join('.');
  return (address.match(/.{4}/g) ?? []).map((group) => group.replace(/^0{1,3}/, '')).join(':');
}

const end = (address: Address, port: number | string) => `[${addressText(address)}]:${port}`;

function pathText(path: Path): string {
  const { ethernet, packets, bytes, left, inIfindex, outIfindex, mtu, toPeer, tell } = path;
  const over = `${left > 0 ? '' : ', over'}${tell ? ', told' : ''}`;
  return `from ${inIfindex} to ${outIfindex} ${toPeer ? ' (its peer)' : ''} by ${ethernet}, mtu ${mtu}, counted ${packets}/${bytes}${over}`;
}

function sessionText({ key, vaddr, vport, daddr, dport, protocol, snat, ...rest }: Session): string {
  const ends = [end(key.caddr, key.cport), end(vaddr, vport), end(daddr, dport)].join(' -> ');
  const { mode, seen, request, reply } = rest;
  return [
    `  service ${key.serviceId.toString(16)} protocol ${protocol}: ${ends}`,
    `    SNAT mode ${mode}, address ${snat.addressId}, port ${snat.port}, cookie ${snat.cookie}${seen ? ', seen' : ''}`,
    `    requests ${pathText(request)}`,
    `    replies ${pathText(reply)}`,
  ].join('\n');
}

function mapsText(maps: Maps): string {
  const list = <T>(title: string, items: Iterable<T>, text: (item: T) => string) =>
    [`${title}:`, ...[...items].map((item) => text(item))].join('\n');
  return [
    list('sessions', maps.sessions.values(), sessionText),
    list('replies', maps.replies.values(), ({ key, session }) => {
      const to = `port ${key.port} of address ${key.addressId}, protocol ${key.protocol}`;
      return `  ${end(key.daddr, key.dport)} -> ${to}: client ${end(session.caddr, session.cport)} service ${session.serviceId.toString(16)}`;
    }),
    list('fragments', maps.fragments.values(), ({ key }) => `  ${inspect(key, { breakLength: 200 })}`),
    list('exhausted', maps.exhausted.values(), (entry) => `  ${inspect(entry, { breakLength: 200 })}`),
    list('addresses', maps.addresses, ([id, { addr }]) => `  ${id}: ${addressText(addr)}`),
    list('interfaces', maps.interfaces.values(), (entry) => `  ${inspect(entry)}`),
    list('services', maps.services.values(), ({ key, id }) => {
      return `  ${id.toString(16)}: ${end(key.vaddr, key.vport)} protocol ${key.protocol}`;
    }),
    list('cluster', maps.cluster, ({ addr, length }) => `  ${addressText(addr)}/${length}`),
    `known ports of virtual servers: ${[...maps.knownPorts].join(', ')}`,
  ].join('\n');
}

function packetText(frame: Buffer): string {
  const family = (frame[ETHERNET] ?? 0) >> 4 === 6 ? 6 : 4;
  const read = readPacket(family, frame);
  if (!isPacket(read)) return read;
  const { source, destination, ...rest } = read;
  const port = (at: number) => (read.length > 0 ? frame.readUInt16BE(read.transport + at) : '?');
  return `${end(source, port(0))} -> ${end(destination, port(2))} ${inspect(rest, { breakLength: 200 })}`;
}

/** Everything that is needed to understand it, and the command that shows it again. */
export function report(
  { command }: Stage,
  seed: number,
  { packet, variant, input, compared, before, lines }: Difference,
): string {
  const { hook, frame, cb, ifindex, mark, gsoSize } = input;
  const words = cb.map((word) => `0x${word.toString(16)}`).join(' ');
  const expected = compared?.expected;
  const ran = compared?.ran;
  const after = ran === undefined || ran === WRONG_SUM ? 'unknown' : ran.frame.toString('hex');
  const model =
    expected &&
    `${expected.verdict} ${expected.counter ?? ''} ${inspect(expected.changes, { depth: 1, breakLength: 160 })}`;
  return [
    `packet ${packet} of seed ${seed} differs (${variant.name}); hints are 0x${HINT_MAGIC.toString(16)} + service`,
    ...lines.map((line) => `  ${line}`),
    `tc ${hook}, ifindex ${ifindex}, mark ${mark}, gso_size ${gsoSize}, cb ${words}`,
    packetText(frame),
    `frame before:   ${frame.toString('hex')}`,
    `frame expected: ${expected?.frame.toString('hex') ?? 'unknown'}`,
    `frame after:    ${after}`,
    `model: ${model ?? 'unknown'}`,
    `verdict: ${typeof ran === 'object' ? ran.verdict : ran}`,
    mapsText(before),
    'again:',
    `  ${command} --seed ${seed} --packet ${packet}`,
    '',
  ].join('\n');
}

/** What came, and which outcomes never did although there were packets enough. */
export function summary(
  { wanted }: Stage,
  tally: Tally,
  seed: number,
  seconds: number,
): { text: string; missing: string[] } {
  const isMissing = (name: string) => (tally.outcomes.get(name) ?? 0) < wanted.least;
  const missing = tally.packets < ENOUGH_FOR_ALL ? [] : wanted.outcomes.filter(isMissing);
  const rows = [...tally.outcomes].sort(([a], [b]) => (a < b ? -1 : 1));
  const rate = Math.round(tally.packets / seconds);
  const text = [
    ...rows.map(([name, packets]) => `${String(packets).padStart(9)}  ${name}`),
    ...missing.map((name) => `${`< ${wanted.least}`.padStart(9)}  ${name}: the generator does not get there`),
    `${tally.packets} packets of seed ${seed} as expected, ${seconds.toFixed(1)} s, ${rate} a second`,
    '',
  ].join('\n');
  return { text, missing };
}
