// SPDX-License-Identifier: Apache-2.0
/** Probes Services that were just accelerated, and takes those off the whitelist that do not work so. */
import type { SliceService } from '../api/resources.ts';
import { shorten } from '../core/conditions.ts';
import type { NodeFacts } from '../core/facts.ts';
import {
  failureBeside,
  type NodeFailure,
  type NodeProgress,
  nodePortAddresses,
} from '../core/node-target.ts';
import { type Probed, planProbe, unprobedAfterLook, withoutChanged } from '../core/service-probe.ts';
import { entryName, ownerOf, withServiceOff } from '../core/services-off.ts';
import { serverText, virtualServerKey } from '../core/virtual-servers.ts';
import type { VirtualServer } from '../ports.ts';
import { type AttemptContext, MESSAGE_LENGTH } from './attempt.ts';
import { messageOf } from './ladder.ts';
import type { Node } from './reconcile.ts';

/** What to remember after this look. Never throws for a probe that could not be made: it tells nothing. */
export async function probeServices(
  { facts, revision }: { readonly facts: NodeFacts; readonly revision: string },
  context: AttemptContext,
): Promise<NodeProgress> {
  const { unprobed: before = [], ...progress } = context.progress;
  const plan = planProbe(before, facts);
  const probed = plan.probe.length === 0 ? [] : await verdicts(plan.probe, context.node);
  const unprobed = unprobedAfterLook(before, plan, probed);
  const next = { ...progress, ...(unprobed.length === 0 ? {} : { unprobed }) };
  return takeOff(probed, { facts, revision }, { ...context, progress: next });
}

async function verdicts(servers: readonly VirtualServer[], node: Node): Promise<readonly Probed[]> {
  const { serviceProbe, ipvs } = node.ports;
  try {
    const found = await serviceProbe.run(servers);
    const probed = servers.flatMap((server, index): Probed[] => {
      const verdict = found[index];
      return verdict === undefined ? [] : [{ server, verdict }];
    });
    // kube-proxy goes on meanwhile.
    const failed = probed.some(({ verdict }) => verdict.verdict === 'Failed');
    return failed ? withoutChanged(probed, await ipvs.virtualServers()) : probed;
  } catch (error) {
    const message = messageOf(error);
    node.log.warn('Services could not be probed', { reason: message });
    return servers.map((server) => ({ server, verdict: { verdict: 'Unsure', message } }));
  }
}

interface Failed {
  readonly service: SliceService;
  readonly message: string;
}

/** The native path is theirs from the next plan on. */
function takeOff(
  probed: readonly Probed[],
  { facts, revision }: { readonly facts: NodeFacts; readonly revision: string },
  { target, progress, node }: AttemptContext,
): NodeProgress {
  const { spec, services } = target;
  const addresses = nodePortAddresses(facts);
  const failed = probed.flatMap(({ server, verdict }): Failed[] => {
    if (verdict.verdict === 'Passed') return [];
    const key = virtualServerKey(server);
    const service = ownerOf(key, services, addresses);
    const message = `${serverText(key)}: ${verdict.message}`;
    node.log.warn('probe of a Service', { verdict: verdict.verdict, reason: message });
    if (verdict.verdict === 'Unsure' || service === undefined) return [];
    return [{ service, message: `Service ${service.namespace}/${service.name}: ${message}` }];
  });
  const [first] = failed;
  if (first === undefined) return progress;
  const servicesOff = failed.reduce((off, { service, message }) => {
    const { namespace, name } = service;
    const entry = entryName(service);
    return withServiceOff(off, { namespace, name, entry, revision, attempt: spec.attempt, message });
  }, progress.servicesOff);
  const text = failed.map(({ message }) => message).join(' ');
  const failure = failureBeside(spec, progress, failureOf(text, revision, node));
  return { ...progress, servicesOff, ...(failure === undefined ? {} : { failure }) };
}

function failureOf(message: string, revision: string, { ports }: Node): NodeFailure {
  return {
    step: 'probeService',
    revision,
    reason: 'ProbeFailed',
    message: shorten(message, MESSAGE_LENGTH),
    at: ports.clock.date(),
    rollback: 'Succeeded',
    rung: 'ServiceOff',
  };
}
