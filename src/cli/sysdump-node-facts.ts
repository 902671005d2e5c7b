// SPDX-License-Identifier: Apache-2.0
/** What a sysdump asks of a node, by commands of the agent's image. All of them only read. */
import { COMMAND_IN_IMAGE } from './top.ts';

export interface NodeFact {
  /** File in the archive. */
  readonly name: string;
  readonly command: readonly string[];
}

const shell = (script: string): readonly string[] => ['sh', '-c', script];

export const NODE_FACTS: readonly NodeFact[] = [
  { name: 'top.json', command: [COMMAND_IN_IMAGE, 'node', 'top', '--once', '--interval', '1', '-o', 'json'] },
  { name: 'steps-of-down.json', command: [COMMAND_IN_IMAGE, 'node', 'steps', '-o', 'json'] },
  { name: 'state.txt', command: shell('tail -n +1 /var/lib/ipvs-bpf/*.json') },
  {
    name: 'next-boot.txt',
    command: shell(
      'find /var/lib/ipvs-bpf/boot -type f ! -name "*.ko" -exec tail -v -n +1 {} + 2>&1 || true',
    ),
  },
  { name: 'ip_vs.txt', command: ['cat', '/proc/net/ip_vs', '/proc/net/ip_vs_stats'] },
  {
    name: 'sysctls.txt',
    command: shell(
      'tail -n +1 /proc/sys/net/ipv4/vs/* /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding 2>&1 || true',
    ),
  },
  { name: 'modules.txt', command: shell('uname -a; grep -e ^ip_vs -e ^nf_conntrack /proc/modules') },
  { name: 'links.txt', command: ['ip', '-details', '-statistics', 'link'] },
  { name: 'addresses.txt', command: ['ip', 'address'] },
  { name: 'routes.txt', command: ['ip', 'route', 'show', 'table', 'all'] },
  { name: 'pins.txt', command: shell('ls -lR /sys/fs/bpf/ipvs-bpf') },
  {
    name: 'kernel-log.txt',
    command: shell('dmesg | grep -i -e ip_vs -e ipvs -e bpf -e BUG -e WARNING -e Oops | tail -n 1000'),
  },
];
