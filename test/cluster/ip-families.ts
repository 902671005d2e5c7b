// SPDX-License-Identifier: Apache-2.0
/** Of which families the addresses of Services and pods are. Nodes reach each other and the control plane by IPv4 too. */

export const ipFamilies = ['ipv4', 'ipv6', 'dual'] as const;
export type IpFamilies = (typeof ipFamilies)[number];

/** What there is of each of these families, IPv4 first. */
export function ofFamilies<T>(families: IpFamilies, four: T, six: T): readonly T[] {
  return [...(families === 'ipv6' ? [] : [four]), ...(families === 'ipv4' ? [] : [six])];
}

export function hasIpv6(families: IpFamilies): boolean {
  return families !== 'ipv4';
}

/** @throws Error that names the choices */
export function parseIpFamilies(text: string): IpFamilies {
  const found = ipFamilies.find((each) => each === text);
  if (found === undefined) throw new Error(`unknown IP families ${text}: use ${ipFamilies.join(', ')}`);
  return found;
}
