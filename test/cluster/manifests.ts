// SPDX-License-Identifier: Apache-2.0
import { type IpFamilies, ofFamilies } from './ip-families.ts';
import { addresses, addresses6, type NodeIdentity } from './layout.ts';

const dnsPorts = [
  { name: 'dns', protocol: 'UDP', port: 53 },
  { name: 'dns-tcp', protocol: 'TCP', port: 53 },
] as const;

const readEverythingThatHasAName = [
  { apiGroups: [''], resources: ['services', 'pods', 'namespaces', 'endpoints'], verbs: ['list', 'watch'] },
  { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: ['list', 'watch'] },
];

/** The Service of the DNS server, which is no pod, and what the server may read. */
export function dnsManifests(families: IpFamilies): string {
  const name = 'system:coredns';
  const clusterIPs = ofFamilies(families, addresses.dnsService, addresses6.dnsService);
  const ends = ofFamilies<{
    readonly addressType: string;
    readonly address: string;
    readonly suffix: string;
  }>(
    families,
    { addressType: 'IPv4', address: addresses.controlPlane, suffix: '' },
    { addressType: 'IPv6', address: addresses6.controlPlane, suffix: '-6' },
  );
  return list([
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'kube-dns', namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } },
      spec: {
        clusterIP: clusterIPs[0],
        ...(families === 'dual' ? { clusterIPs, ipFamilyPolicy: 'RequireDualStack' } : {}),
        ports: dnsPorts,
      },
    },
    ...ends.map(({ addressType, address, suffix }) => ({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        name: `kube-dns-control-plane${suffix}`,
        namespace: 'kube-system',
        labels: { 'kubernetes.io/service-name': 'kube-dns' },
      },
      addressType,
      ports: dnsPorts,
      endpoints: [{ addresses: [address], conditions: { ready: true } }],
    })),
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRole',
      metadata: { name },
      rules: readEverythingThatHasAName,
    },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRoleBinding',
      metadata: { name },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name }],
    },
  ]);
}

/** Node objects from before their kubelets report, so that each has its pod range from the start. */
export function nodeManifests(nodes: readonly NodeIdentity[], families: IpFamilies): string {
  return list(
    nodes.map(({ name, podRange, podRange6 }) => {
      const podCIDRs = ofFamilies(families, podRange, podRange6);
      return {
        apiVersion: 'v1',
        kind: 'Node',
        metadata: { name, labels: { 'kubernetes.io/hostname': name } },
        spec: { podCIDR: podCIDRs[0], podCIDRs },
      };
    }),
  );
}

function list(items: readonly object[]): string {
  return `${JSON.stringify({ apiVersion: 'v1', kind: 'List', items }, null, 2)}\n`;
}
