// SPDX-License-Identifier: Apache-2.0
/** What the self-check and the probe of Services share: a client in a network namespace, and its way in. */
import { connect, type Socket, type TcpNetConnectOpts } from 'node:net';
import { SELF_CHECK_CLIENT_SIDE, SELF_CHECK_PREFIX } from '../core/interfaces.ts';
import { inPair, linkLocals, type TestAddresses } from '../core/self-check-network.ts';
import type { Datapath } from '../datapath-ports.ts';
import type { Links } from '../ports.ts';

export interface TestNetworkPorts {
  readonly links: Links;
  readonly datapath: Datapath;
}

/**
 * `client .242 --- .241 director`, of one family or of both; with `gateway` the client reaches every address of them by
 * the director.
 */
export async function createClientSide(
  links: Links,
  networks: readonly TestAddresses[],
  peer: { readonly netns: string; readonly gateway: boolean },
): Promise<void> {
  const virtual = networks.map((addresses) => addresses.virtual);
  await links.createVeth({
    name: SELF_CHECK_CLIENT_SIDE,
    peer: 'client',
    addresses: virtual.flatMap((address) => [inPair(address), ...linkLocals(address)]),
    peerNetns: peer.netns,
    peerAddresses: networks.map(({ client }) => inPair(client)),
    ...(peer.gateway ? { peerGateways: virtual } : {}),
  });
}

/** To all links of the test network that are there. */
export async function attachPrograms({ links, datapath }: TestNetworkPorts): Promise<void> {
  for (const { index } of (await links.list()).filter(isOurs)) {
    await datapath.attach(index, 'Ingress');
    await datapath.attach(index, 'Egress');
  }
}

export async function detachPrograms({ links, datapath }: TestNetworkPorts): Promise<void> {
  const indexes = new Set((await links.list()).filter(isOurs).map(({ index }) => index));
  for (const { ifindex, direction } of await datapath.attachments()) {
    if (indexes.has(ifindex)) await datapath.detach(ifindex, direction);
  }
}

function isOurs(link: { readonly name: string }): boolean {
  return link.name.startsWith(SELF_CHECK_PREFIX);
}

/** Begins to connect; `host` is an address. The sockets exist when it resolves, and errors are theirs to tell. */
export async function openSockets(ends: readonly TcpNetConnectOpts[]): Promise<readonly Socket[]> {
  const sockets = ends.map((end) => {
    const socket = connect(end);
    socket.on('error', () => {});
    return socket;
  });
  // A socket itself is made in the next tick. Nothing else gets its turn before that: whoever waits for it in a
  // network namespace has nobody else's sockets there.
  await new Promise<void>((resolve) => process.nextTick(resolve));
  return sockets;
}
