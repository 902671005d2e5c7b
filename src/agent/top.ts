// SPDX-License-Identifier: Apache-2.0
/** What goes through this node's virtual servers, look after look. Reads only. */
import { virtualServersOf } from '../core/node-spec.ts';
import { ratesOf, type TrafficLook, type TrafficRates } from '../core/traffic.ts';
import type { NodeMemories } from '../ports.ts';
import type { IpvsTraffic } from '../traffic-ports.ts';
import type { NodePorts } from './observe.ts';

/** What a look needs of a node. */
export interface TopNode {
  readonly ports: Pick<NodePorts, 'datapath' | 'links' | 'clock'>;
  readonly traffic: IpvsTraffic;
  readonly memories: NodeMemories;
}

export interface TopLoop {
  readonly intervalMs: number;
  /** How many differences are shown; unset: until it is told to stop. */
  readonly times?: number | undefined;
  /** Answers false if nobody looks any more. */
  readonly show: (rates: TrafficRates) => boolean;
  readonly pause: (milliseconds: number) => Promise<'elapsed' | 'reload' | 'stop'>;
}

/** Shows the difference of two looks again and again, until it is told to stop. */
export async function top(
  node: TopNode,
  { intervalMs, times = Number.POSITIVE_INFINITY, show, pause }: TopLoop,
): Promise<void> {
  let before = await look(node);
  for (let shown = 0; shown < times; shown += 1) {
    if ((await pause(intervalMs)) === 'stop') return;
    const after = await look(node);
    if (!show(ratesOf(before, after))) return;
    before = after;
  }
}

async function look({ ports, traffic, memories }: TopNode): Promise<TrafficLook> {
  const { datapath, links, clock } = ports;
  const pinned = (await datapath.state()) !== undefined;
  const services = (await memories.read()).target?.services ?? [];
  const addresses = services.length === 0 ? [] : (await links.addresses()).map(({ address }) => address);
  const named = virtualServersOf(services, addresses);
  return {
    at: clock.now(),
    servers: await traffic.read(),
    whitelist: pinned ? await datapath.services() : [],
    sessions: pinned ? await datapath.sessionsByService() : new Map(),
    forwarded: pinned ? await datapath.forwardedByService() : new Map(),
    counters: pinned ? await datapath.counters() : {},
    services: new Map(named.map(({ key, namespace, name }) => [key, `${namespace}/${name}`])),
  };
}
