// SPDX-License-Identifier: Apache-2.0
/** A director without Kubernetes that the tests of `up` and `down` share. */
import { type FakeNode, fakeNode } from '../../fakes/fake-node.ts';
import { nodeConfig, virtualServer } from '../builders.ts';

export const CONFIG = nodeConfig({
  services: { virtualServers: [{ address: '198.51.100.10', port: 80, protocol: 'TCP' }] },
  snat: { mode: 'External', clusterCIDRs: ['10.0.0.0/8'] },
  ipvs: { connReuseMode: 1, expireNodestConn: 1 },
});
export const TABLE = [
  virtualServer('198.51.100.10', { scheduler: 'wlc' }),
  virtualServer('198.51.100.11', { protocol: 'UDP', port: 53 }),
];

/** Of ip_vs, when it has been loaded by somebody else. */
export const PARAMETERS = ['conn_tab_bits=10'];

export function director(...table: typeof TABLE): FakeNode {
  const node = fakeNode();
  if (table.length > 0) {
    node.machine.ipvs.seed(...table);
    node.machine.modules.tell('ip_vs', PARAMETERS);
  }
  return node;
}

/** Everything that `down` must leave as it was. */
export async function listing(node: FakeNode): Promise<unknown> {
  const { machine, records } = node;
  return {
    modules: new Map(
      (await machine.modules.list()).map(({ name, srcversion, parameters }) => [
        name,
        { srcversion, parameters },
      ]),
    ),
    blocked: [...machine.modules.blocked],
    bootFiles: (await machine.boot.state()).present,
    sysctls: Object.fromEntries(machine.host.sysctls),
    table: machine.ipvs.table,
    timeouts: machine.ipvs.table.length > 0 ? await machine.ipvs.timeouts() : undefined,
    attachments: await machine.datapath.attachments(),
    pinned: await machine.datapath.state(),
    recordsEmpty: records.isEmpty,
    links: (await machine.links.list()).map(({ name }) => name),
  };
}
