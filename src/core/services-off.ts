// SPDX-License-Identifier: Apache-2.0
/** Services that a node has taken off its whitelist, and until when. */
import type { SliceService } from '../api/resources.ts';
import { canonicalJson, shortHash } from './canonical.ts';
import { keyOf } from './kube-object.ts';
import { virtualServersOf } from './node-spec.ts';
import { virtualServerKey } from './virtual-servers.ts';

export interface ServiceOff {
  readonly namespace: string;
  readonly name: string;
  /** By virtualServerKey(); undefined: all that it has. */
  readonly servers?: readonly string[];
  /** Names its entry in the whitelist: another one is tried. */
  readonly entry: string;
  /** The revision that it failed with: another one is tried. */
  readonly revision: string;
  /** spec.attempt then: with a higher one it is tried again. */
  readonly attempt: number;
  /** What happened, for people. */
  readonly message: string;
}

/** The name of a Service's entry in the whitelist. */
export function entryName(service: SliceService): string {
  return shortHash(canonicalJson(service));
}

/** Adds a Service; what was known of it is replaced. */
export function withServiceOff(off: readonly ServiceOff[], added: ServiceOff): readonly ServiceOff[] {
  const known = off.find((one) => isSame(one, added) && one.revision === added.revision);
  const servers =
    added.servers === undefined || (known !== undefined && known.servers === undefined)
      ? {}
      : { servers: [...new Set([...(known?.servers ?? []), ...added.servers])] };
  const { servers: _, ...rest } = added;
  return [...off.filter((one) => !isSame(one, added)), { ...rest, ...servers }];
}

export interface OffContext {
  readonly services: readonly SliceService[];
  readonly attempt: number;
  /** Of the revisions that the node has or is to have. */
  readonly revisions: readonly string[];
}

/** Those that are not to be tried again yet. */
export function stillOff(
  off: readonly ServiceOff[],
  { services, attempt, revisions }: OffContext,
): readonly ServiceOff[] {
  if (off.length === 0) return off;
  const entries = new Map(services.map((service) => [keyOf(service), service]));
  return off.filter((one) => {
    const service = entries.get(keyOf(one));
    return (
      service !== undefined &&
      entryName(service) === one.entry &&
      one.attempt >= attempt &&
      revisions.includes(one.revision)
    );
  });
}

/** virtualServerKey() → why, of the virtual servers that are off on a node with these addresses. */
export function serversOff(
  off: readonly ServiceOff[],
  context: OffContext,
  addresses: readonly string[],
): ReadonlyMap<string, string> {
  const services = new Map(stillOff(off, context).map((one) => [keyOf(one), one]));
  if (services.size === 0) return new Map();
  return new Map(
    virtualServersOf(context.services, addresses).flatMap(({ server, ...service }) => {
      const one = services.get(keyOf(service));
      const key = virtualServerKey(server);
      if (one === undefined || (one.servers !== undefined && !one.servers.includes(key))) return [];
      return [[key, one.message] as const];
    }),
  );
}

/** The Service of which this is a virtual server on a node with these addresses. */
export function ownerOf(
  key: string,
  services: readonly SliceService[],
  addresses: readonly string[],
): SliceService | undefined {
  const owner = virtualServersOf(services, addresses).find(({ server }) => virtualServerKey(server) === key);
  return owner === undefined ? undefined : services.find((service) => isSame(service, owner));
}

type Named = Pick<ServiceOff, 'namespace' | 'name'>;

function isSame(a: Named, b: Named): boolean {
  return keyOf(a) === keyOf(b);
}
