// SPDX-License-Identifier: Apache-2.0
/** Which ports of a director's address may stand for a client's. */
import type { PortRange } from '../datapath-ports.ts';
import { PORT_RANGES } from './abi.ts';

/** kube-proxy's default NodePort range; a NodePort must never be taken as a SNAT port. */
const NODE_PORTS: PortRange = { first: 30000, last: 32767 };
const UNPRIVILEGED: PortRange = { first: 1024, last: 65535 };

/**
 * 1024..65535 without the host's own ports: net.ipv4.ip_local_port_range ("32768\t60999"), the NodePort range and
 * net.ipv4.ip_local_reserved_ports ("8080,9000-9100", may be empty). Ascending; if more than the four ranges that
 * the programs have room for are left, the largest four.
 */
export function snatPortRanges(localPortRange: string, localReservedPorts: string): readonly PortRange[] {
  const [first = 0, last = 0] = localPortRange.trim().split(/\s+/).map(Number);
  let left: readonly PortRange[] = [UNPRIVILEGED];
  for (const taken of [{ first, last }, NODE_PORTS, ...parseRanges(localReservedPorts)]) {
    left = left.flatMap((range) => subtract(range, taken));
  }
  return [...left]
    .sort((a, b) => size(b) - size(a))
    .slice(0, PORT_RANGES)
    .sort((a, b) => a.first - b.first);
}

/** Of all ranges together. */
export function portCount(ranges: readonly PortRange[]): number {
  return ranges.reduce((sum, range) => sum + size(range), 0);
}

function parseRanges(text: string): PortRange[] {
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map((part) => {
      const [first = '', last = first] = part.split('-');
      return { first: Number(first), last: Number(last) };
    });
}

function subtract(range: PortRange, taken: PortRange): PortRange[] {
  if (taken.last < range.first || taken.first > range.last) return [range];
  return [
    { first: range.first, last: taken.first - 1 },
    { first: taken.last + 1, last: range.last },
  ].filter(({ first, last }) => first <= last);
}

function size(range: PortRange): number {
  return range.last - range.first + 1;
}
