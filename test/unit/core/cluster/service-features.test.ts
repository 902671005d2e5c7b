// SPDX-License-Identifier: Apache-2.0
/** What becomes of each feature that a Service can have: virtual servers, a caveat, or a rejection with its reason. */
import { describe, expect, it } from 'vitest';
import type { PolicySpec } from '../../../../src/api/resources.ts';
import type { ClusterNetworkPolicy, ClusterService } from '../../../../src/core/cluster-facts.ts';
import { CAVEATS, type Caveat, REJECT_REASONS, type RejectReason } from '../../../../src/core/reasons.ts';
import { type SelectionFacts, selectServices } from '../../../../src/core/service-selection.ts';
import { casesOf, NODE_REJECTIONS, type NodeRejection, without } from '../../cases.ts';
import { facts, keptFacts, policySpec, service } from './builders.ts';

type ServiceSpec = NonNullable<ClusterService['spec']>;

interface Setting {
  /** Also fields that the operator does not look at. */
  readonly spec?: ServiceSpec & Readonly<Record<string, unknown>>;
  readonly labels?: Readonly<Record<string, string>>;
  readonly balancer?: readonly {
    readonly ip?: string;
    readonly ipMode?: string;
    readonly hostname?: string;
  }[];
  readonly policy?: Partial<PolicySpec['services']>;
  readonly snat?: PolicySpec['snat']['mode'];
  readonly facts?: Partial<SelectionFacts>;
}

/** What the policy makes of Service a/web in this setting. */
function select({ spec = {}, labels = {}, balancer, policy = {}, snat = 'External', facts: more }: Setting) {
  const made = service('a', 'web', spec);
  const web: ClusterService = {
    ...made,
    metadata: { ...made.metadata, labels },
    ...(balancer === undefined ? {} : { status: { loadBalancer: { ingress: balancer } } }),
  };
  const wanted = policySpec();
  return selectServices(
    { snat: { ...wanted.snat, mode: snat }, services: { ...wanted.services, ...policy } },
    keptFacts({ ...facts(), services: [web], ...more }),
  );
}

/** "10.96.0.1 TCP/80 External": the address, the port, and whose requests get an address of the node. */
function described(setting: Setting) {
  const { services, rejected, caveats } = select(setting);
  const [found] = services;
  return {
    servers: (found?.virtualServers ?? []).flatMap(({ addresses, ports, snatMode }) =>
      addresses.flatMap((address) =>
        ports.map(({ port, protocol }) => `${address} ${protocol}/${port} ${snatMode}`),
      ),
    ),
    nodePorts: (found?.nodePorts ?? []).map(
      ({ port, protocol, snatMode }) => `${protocol}/${port} ${snatMode}`,
    ),
    rejected: rejected.map(({ reason }) => reason),
    caveats: caveats.map(({ reason }) => reason),
  };
}

interface Outcome {
  readonly servers?: readonly string[];
  readonly nodePorts?: readonly string[];
  readonly rejected?: readonly RejectReason[];
  readonly caveats?: readonly Caveat[];
}

const CLUSTER = '10.96.0.1 TCP/80 External';
const CLUSTER6 = 'fd00::1 TCP/80 External';
const both = ['10.96.0.1', 'fd00::1'];
const only6 = { clusterIP: 'fd00::1', clusterIPs: ['fd00::1'] };
const plain: Outcome = { servers: [CLUSTER] };
const http = { name: 'http', port: 80, protocol: 'TCP' };
const onNodes = { ...http, nodePort: 30080 };
const balanced = { type: 'LoadBalancer', ports: [onNodes] } as const;
const vip = [{ ip: '192.0.2.1' }];
const outside = (snat: string): Outcome => ({
  servers: [CLUSTER, `192.0.2.1 TCP/80 ${snat}`],
  nodePorts: [`TCP/30080 ${snat}`],
});
const threePorts = [
  http,
  { name: 'dns', port: 53, protocol: 'UDP' },
  { name: 'sig', port: 99, protocol: 'SCTP' },
];

const networkPolicy = (matchLabels: Record<string, string>, policyTypes: string[]): ClusterNetworkPolicy => ({
  metadata: { namespace: 'a', name: 'deny' },
  spec: { podSelector: { matchLabels }, policyTypes },
});
const ingress = { networkPolicies: [networkPolicy({ app: 'web' }, ['Ingress'])] };
const egress = { networkPolicies: [networkPolicy({ app: 'other' }, ['Egress'])] };
const sourceRanges = { ...balanced, loadBalancerSourceRanges: ['198.51.100.0/24'] };

/** Endpoints in all states; kube-proxy makes of them the real servers, which nothing here looks at. */
const endpointSlices = (...states: readonly object[]) => ({
  endpointSlices: [
    {
      metadata: { namespace: 'a', name: 'web-1', labels: { 'kubernetes.io/service-name': 'web' } },
      endpoints: states.map((state, i) => ({
        addresses: [`10.244.0.${i}`],
        targetRef: { kind: 'Pod' },
        ...state,
      })),
    },
  ],
});

const FEATURES: readonly (readonly [string, Setting, Outcome])[] = [
  ['a cluster address', {}, plain],
  [
    'several ports',
    { spec: { ports: [http, { port: 53, protocol: 'UDP' }] } },
    { servers: [CLUSTER, '10.96.0.1 UDP/53 External'] },
  ],
  ['a port without a protocol', { spec: { ports: [{ port: 80 }] } }, plain],
  ['no selector', { spec: { selector: {} } }, plain],
  [
    'traffic policy Cluster',
    { spec: { ...balanced, externalTrafficPolicy: 'Cluster' }, balancer: vip },
    outside('Always'),
  ],
  [
    'traffic policy Local: the source is kept',
    { spec: { ...balanced, externalTrafficPolicy: 'Local' }, balancer: vip },
    outside('Never'),
  ],
  ['internal traffic policy Local', { spec: { internalTrafficPolicy: 'Local' } }, plain],
  [
    'a health-check node port: it is kube-proxy’s own server, not IPVS’s',
    { spec: { ...balanced, externalTrafficPolicy: 'Local', healthCheckNodePort: 32000 }, balancer: vip },
    outside('Never'),
  ],
  [
    'node ports',
    { spec: { type: 'NodePort', ports: [onNodes] } },
    { ...plain, nodePorts: ['TCP/30080 Always'] },
  ],
  [
    'a balancer without node ports',
    { spec: { type: 'LoadBalancer', allocateLoadBalancerNodePorts: false }, balancer: vip },
    { servers: outside('Always').servers ?? [] },
  ],
  [
    'a balancer with a name and no address',
    { spec: { type: 'LoadBalancer' }, balancer: [{ hostname: 'lb.test' }] },
    plain,
  ],
  [
    'a balancer that has the address itself',
    { spec: { type: 'LoadBalancer' }, balancer: [{ ip: '192.0.2.1', ipMode: 'Proxy' }] },
    plain,
  ],
  [
    'external addresses',
    { spec: { externalIPs: ['198.51.100.7'] } },
    { servers: [CLUSTER, '198.51.100.7 TCP/80 Always'] },
  ],
  [
    'an external address twice',
    { spec: { ...balanced, ports: [http], externalIPs: ['192.0.2.1'] }, balancer: vip },
    { servers: outside('Always').servers ?? [] },
  ],
  [
    'session affinity',
    { spec: { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } } } },
    plain,
  ],
  [
    'topology hints',
    {
      spec: { trafficDistribution: 'PreferClose' },
      facts: endpointSlices({ hints: { forZones: [{ name: 'z' }] } }),
    },
    { ...plain, caveats: ['SelfAccessTranslated'] },
  ],
  [
    'terminating endpoints',
    { facts: endpointSlices({ conditions: { ready: false, serving: true, terminating: true } }) },
    { ...plain, caveats: ['SelfAccessTranslated'] },
  ],
  [
    'endpoints that are not ready',
    { spec: { publishNotReadyAddresses: true }, facts: endpointSlices({ conditions: { ready: false } }) },
    { ...plain, caveats: ['SelfAccessTranslated'] },
  ],
  ['no endpoints', { facts: endpointSlices() }, plain],
  [
    'a named port',
    { spec: { ports: threePorts }, policy: { include: [{ namespace: 'a', name: 'web', ports: ['dns'] }] } },
    { servers: ['10.96.0.1 UDP/53 External'] },
  ],
  [
    'a numeric port',
    { spec: { ports: threePorts }, policy: { include: [{ namespace: 'a', name: 'web', ports: [80] }] } },
    plain,
  ],
  ['a target port by name', { spec: { ports: [{ ...http, targetPort: 'web' } as typeof http] } }, plain],
  ['source ranges that are respected', { spec: sourceRanges, balancer: vip }, { rejected: ['SourceRanges'] }],
  [
    'source ranges that are bypassed',
    { spec: sourceRanges, balancer: vip, policy: { filtering: 'Bypass' } },
    { ...outside('Always'), caveats: ['SourceRangesBypassed'] },
  ],
  [
    'source ranges for everybody',
    { spec: { ...balanced, loadBalancerSourceRanges: ['10.0.0.0/8', ' 0.0.0.0/0'] }, balancer: vip },
    outside('Always'),
  ],
  [
    'source ranges that mean nothing without a balancer',
    { spec: { loadBalancerSourceRanges: ['198.51.100.0/24'] } },
    plain,
  ],
  ['a NetworkPolicy that is respected', { facts: ingress }, { rejected: ['NetworkPolicy'] }],
  [
    'a NetworkPolicy that is bypassed',
    { facts: ingress, policy: { filtering: 'Bypass' } },
    { ...plain, caveats: ['NetworkPolicyBypassed'] },
  ],
  [
    'a NetworkPolicy for other pods',
    { facts: { networkPolicies: [networkPolicy({ app: 'db' }, ['Ingress'])] } },
    plain,
  ],
  ['a NetworkPolicy for egress', { facts: egress }, { ...plain, caveats: ['EgressPoliciesBypassed'] }],
  [
    'source ranges for everybody of one family of two',
    {
      spec: { ...balanced, clusterIPs: both, loadBalancerSourceRanges: ['0.0.0.0/0', 'fd00::/8'] },
      balancer: vip,
    },
    { rejected: ['SourceRanges'] },
  ],
  [
    'source ranges for everybody of both families',
    { spec: { clusterIPs: both, type: 'LoadBalancer', loadBalancerSourceRanges: ['::/0', '0.0.0.0/0'] } },
    { servers: [CLUSTER, CLUSTER6] },
  ],
  [
    'source ranges of a family that it does not have',
    { spec: { ...only6, type: 'LoadBalancer', loadBalancerSourceRanges: ['192.0.2.0/24', '::/0'] } },
    { servers: [CLUSTER6] },
  ],
  ['IPv6 only', { spec: only6 }, { servers: [CLUSTER6] }],
  ['an IPv6 address in another form', { spec: { clusterIPs: ['FD00:0::01'] } }, { servers: [CLUSTER6] }],
  [
    'dual stack, IPv4 first',
    { spec: { clusterIPs: both, ports: [onNodes], type: 'NodePort' } },
    { servers: [CLUSTER, CLUSTER6], nodePorts: ['TCP/30080 Always'] },
  ],
  [
    'dual stack, IPv6 first',
    { spec: { clusterIP: 'fd00::1', clusterIPs: ['fd00::1', '10.96.0.1'] } },
    { servers: [CLUSTER6, CLUSTER] },
  ],
  [
    'a balancer in both families',
    { spec: { type: 'LoadBalancer' }, balancer: [...vip, { ip: '2001:db8::1' }] },
    { servers: [...(outside('Always').servers ?? []), '2001:db8::1 TCP/80 Always'] },
  ],
  [
    'external addresses of both families, one of them twice',
    { spec: { externalIPs: ['198.51.100.7', '2001:db8::7', '2001:DB8:0::7', '::ffff:198.51.100.7'] } },
    { servers: [CLUSTER, '198.51.100.7 TCP/80 Always', '2001:db8::7 TCP/80 Always'] },
  ],
  [
    'a balancer with a link-local address beside another',
    { spec: { type: 'LoadBalancer' }, balancer: [...vip, { ip: 'fe80::1' }] },
    { servers: outside('Always').servers ?? [], caveats: ['PartlyAccelerated'] },
  ],
  [
    'SCTP only',
    { spec: { ports: [{ port: 99, protocol: 'SCTP' }] } },
    { servers: ['10.96.0.1 SCTP/99 External'] },
  ],
  [
    'SCTP beside others',
    { spec: { ports: threePorts } },
    { servers: [CLUSTER, '10.96.0.1 UDP/53 External', '10.96.0.1 SCTP/99 External'] },
  ],
  ['headless', { spec: { clusterIP: 'None', clusterIPs: ['None'] } }, { rejected: ['Headless'] }],
  [
    'ExternalName',
    { spec: { type: 'ExternalName', clusterIP: '', clusterIPs: [], externalName: 'x.test' } },
    { rejected: ['ExternalName'] },
  ],
  [
    'snat Always',
    { snat: 'Always' },
    { servers: ['10.96.0.1 TCP/80 Always'], caveats: ['ClientSourceTranslated'] },
  ],
  ['snat Never', { snat: 'Never' }, { servers: ['10.96.0.1 TCP/80 Never'] }],
];

describe('a Service with', () => {
  it.each(FEATURES)('%s', (_, setting, outcome) => {
    expect(described(setting)).toEqual({ servers: [], nodePorts: [], rejected: [], caveats: [], ...outcome });
  });
});

const REJECTIONS: Readonly<Record<Exclude<RejectReason, NodeRejection>, Setting>> = {
  NotFound: { facts: { services: [] } },
  Headless: { spec: { clusterIP: 'None', clusterIPs: ['None'] } },
  ExternalName: { spec: { type: 'ExternalName' } },
  NoAddress: { spec: { clusterIP: '', clusterIPs: [] } },
  OtherProxy: { labels: { 'service.kubernetes.io/service-proxy-name': 'other' } },
  PortNotFound: { policy: { include: [{ namespace: 'a', name: 'web', ports: ['nope'] }] } },
  TooManyPorts: { spec: { ports: Array.from({ length: 1001 }, (_, i) => ({ port: i + 1 })) } },
  LinkLocalAddress: { spec: { clusterIP: 'fe80::1', clusterIPs: ['fe80::1'] } },
  NetworkPolicy: { facts: ingress },
  SourceRanges: { spec: sourceRanges },
  AddressInUse: {
    policy: { include: ['thief', 'web'].map((name) => ({ namespace: 'a', name })) },
    facts: { services: [service('a', 'thief'), service('a', 'web')] },
  },
};

const CAVEAT_SETTINGS: Readonly<Record<Caveat, Setting>> = {
  SelfAccessTranslated: { facts: endpointSlices({}) },
  ClientSourceTranslated: { snat: 'Always' },
  EgressPoliciesBypassed: { facts: egress },
  NetworkPolicyBypassed: { facts: ingress, policy: { filtering: 'Bypass' } },
  SourceRangesBypassed: { spec: sourceRanges, policy: { filtering: 'Bypass' } },
  PartlyAccelerated: { spec: { type: 'LoadBalancer' }, balancer: [...vip, { ip: 'fe80::1' }] },
};

describe('a Service gets the', () => {
  it.each(casesOf(without(REJECT_REASONS, NODE_REJECTIONS), REJECTIONS))(
    'rejection %s',
    (reason, setting) => {
      const selection = select(setting);
      const found = selection.rejected.filter(({ name }) => name === 'web');
      expect(found).toMatchObject([{ namespace: 'a', reason }]);
      expect(found[0]?.message).toMatch(/\.$/);
      expect(selection.services.filter(({ name }) => name === 'web')).toEqual([]);
    },
  );

  it.each(casesOf(CAVEATS, CAVEAT_SETTINGS))('caveat %s, and runs accelerated', (reason, setting) => {
    const selection = select(setting);
    expect(selection.caveats.map((caveat) => caveat.reason)).toContain(reason);
    expect(selection.services.map(({ name }) => name)).toEqual(['web']);
  });
});
