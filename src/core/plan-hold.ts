// SPDX-License-Identifier: Apache-2.0
/** What has to be in place before modules are exchanged, for packets to be held back meanwhile. */
import type { NodeConfig } from '../api/generated/node-config-types.ts';
import type { Link } from '../ports.ts';
import type { NodeFacts } from './facts.ts';
import { coveredLinks, LOOPBACK } from './interfaces.ts';
import { desiredOptions, optionsOf } from './plan-datapath.ts';
import type { Step } from './steps.ts';

/** Right before the table is flushed: once packets are held back, nobody is answered. */
export const CARRY_CONNECTIONS: readonly Step[] = [
  { kind: 'trackSessions' },
  { kind: 'holdTraffic' },
  { kind: 'saveConnections' },
];

/**
 * Programs that do not call the module, and with them on the loopback device, by which this host's own requests go.
 * Before kube-proxy stands still, because to load programs may take long.
 */
export function prepareHold(facts: NodeFacts): readonly Step[] {
  return [...releaseModule(facts), ...attachIngress(facts, facts.links.filter(isLoopback))];
}

/** The same where there may be no programs yet. They pass all packets on. */
export function prepareFirstHold(config: NodeConfig, facts: NodeFacts): readonly Step[] {
  const options = { ...desiredOptions(config, facts), withoutModule: true };
  const first: readonly Step[] = facts.datapath === undefined ? [{ kind: 'loadDatapath', options }] : [];
  const covered = coveredLinks(config.datapath.interfaces, facts.links);
  const others = covered.filter((link) => !isLoopback(link));
  return [...first, ...prepareHold(facts), ...attachIngress(facts, others)];
}

function releaseModule({ datapath }: NodeFacts): readonly Step[] {
  if (datapath?.state.usesModule !== true) return [];
  return [{ kind: 'releaseModule', options: optionsOf(datapath.state) }];
}

/** A node that is up has them elsewhere, and not there, unless it is told to. */
export function detachLoopback({ links }: NodeFacts, covered: readonly Link[] = []): readonly Step[] {
  const kept = new Set(covered.map(({ index }) => index));
  return links
    .filter((link) => isLoopback(link) && !kept.has(link.index))
    .map(({ index, name }) => ({ kind: 'detach', ifindex: index, name, direction: 'Ingress' }));
}

/** The same of one that a run which was killed has left there. */
export function detachLeftLoopback(config: NodeConfig, facts: NodeFacts): readonly Step[] {
  const attached = new Set(facts.attachments.map(({ ifindex }) => ifindex));
  const covered = coveredLinks(config.datapath.interfaces, facts.links);
  return detachLoopback(facts, covered).filter(
    (step) => step.kind === 'detach' && attached.has(step.ifindex),
  );
}

function isLoopback({ name }: Link): boolean {
  return name === LOOPBACK;
}

function attachIngress({ attachments }: NodeFacts, links: readonly Link[]): readonly Step[] {
  const here = new Set(
    attachments.flatMap(({ ifindex, direction }) => (direction === 'Ingress' ? [ifindex] : [])),
  );
  return links
    .filter(({ index }) => !here.has(index))
    .map(({ index, name }) => ({
      kind: 'attach',
      ifindex: index,
      name,
      direction: 'Ingress',
      wasAttached: false,
    }));
}
