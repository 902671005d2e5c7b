// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import type { PolicySpec, SliceService } from '../../../../src/api/resources.ts';
import type { ClusterService } from '../../../../src/core/cluster-facts.ts';
import { virtualServersOf, whitelistRevision } from '../../../../src/core/node-spec.ts';
import { aggregatePrefixes } from '../../../../src/core/prefixes.ts';
import { type SelectionFacts, selectServices } from '../../../../src/core/service-selection.ts';
import { planSlices } from '../../../../src/core/service-slices.ts';
import { facts, policySpec, service } from './builders.ts';

const include = [{ namespace: 'a', name: 'web' }];

function select(
  services: readonly ClusterService[],
  whitelist: Partial<PolicySpec['services']> = {},
  more: Partial<SelectionFacts> = {},
) {
  const spec = policySpec();
  return selectServices(
    { snat: spec.snat, services: { ...spec.services, ...whitelist } },
    { ...facts(), services, ...more },
  );
}

const networkPolicy = (matchLabels: Record<string, string>, policyTypes = ['Ingress']) => ({
  metadata: { namespace: 'a', name: 'deny' },
  spec: { podSelector: { matchLabels }, policyTypes },
});

describe('a Service of the whitelist', () => {
  it('is accelerated at every address, with the source kept where Kubernetes keeps it', () => {
    const balanced = service('a', 'web', {
      type: 'LoadBalancer',
      externalIPs: ['198.51.100.7'],
      ports: [{ name: 'http', port: 80, protocol: 'TCP', nodePort: 30080 }],
    });
    const ingress = [{ ip: '192.0.2.1' }, { ip: '192.0.2.2', ipMode: 'Proxy' }];
    const [found] = select([{ ...balanced, status: { loadBalancer: { ingress } } }]).services;
    const ports = [{ port: 80, protocol: 'TCP' }];
    expect(found).toEqual({
      namespace: 'a',
      name: 'web',
      virtualServers: [
        { addresses: ['10.96.0.1'], ports, snatMode: 'External' },
        { addresses: ['198.51.100.7', '192.0.2.1'], ports, snatMode: 'Always' },
      ],
      nodePorts: [{ port: 30080, protocol: 'TCP', snatMode: 'Always' }],
    });
    const local = service('a', 'web', { ...balanced.spec, externalTrafficPolicy: 'Local' });
    expect(select([local]).services[0]).toMatchObject({
      virtualServers: [{ snatMode: 'External' }, { snatMode: 'Never' }],
      nodePorts: [{ snatMode: 'Never' }],
    });
  });

  it.each<[string, ClusterService['spec'], Record<string, string>]>([
    ['Headless', { clusterIP: 'None', clusterIPs: ['None'] }, {}],
    ['Headless', {}, { 'service.kubernetes.io/headless': '' }],
    ['ExternalName', { type: 'ExternalName' }, {}],
    ['NoAddress', { clusterIP: '', clusterIPs: [''] }, {}],
    ['OtherProxy', {}, { 'service.kubernetes.io/service-proxy-name': 'other' }],
    ['LinkLocalAddress', { clusterIP: 'fe80::1', clusterIPs: ['fe80::1'] }, {}],
    ['SourceRanges', { type: 'LoadBalancer', loadBalancerSourceRanges: ['192.0.2.0/24'] }, {}],
    ['TooManyPorts', { ports: Array.from({ length: 1001 }, (_, i) => ({ port: i + 1 })) }, {}],
    ['PortNotFound', { ports: [] }, {}],
  ])('is rejected: %s', (reason, spec, labels) => {
    const made = service('a', 'web', spec);
    const { rejected, services } = select([{ ...made, metadata: { ...made.metadata, labels } }]);
    expect(rejected).toMatchObject([{ namespace: 'a', name: 'web', reason }]);
    expect(services).toEqual([]);
  });

  it('is rejected if it does not exist, or a rule of netfilter is for it', () => {
    expect(select([]).rejected).toMatchObject([{ reason: 'NotFound' }]);
    const networkPolicies = [networkPolicy({ app: 'web' })];
    const web = service('a', 'web');
    expect(select([web], {}, { networkPolicies }).rejected).toMatchObject([{ reason: 'NetworkPolicy' }]);
    expect(select([web], {}, { networkPolicies: [networkPolicy({ app: 'db' })] }).rejected).toEqual([]);
    expect(select([web], { filtering: 'Bypass' }, { networkPolicies }).caveats).toMatchObject([
      { reason: 'NetworkPolicyBypassed' },
    ]);
    const egress = [networkPolicy({ app: 'x' }, ['Egress'])];
    expect(select([web], {}, { networkPolicies: egress }).caveats).toMatchObject([
      { reason: 'EgressPoliciesBypassed' },
    ]);
  });

  it('loses an address to the Service before it', () => {
    const both = [
      service('a', 'web', { externalIPs: ['192.0.2.1'] }),
      service('a', 'zoo', { clusterIP: '10.96.0.2', externalIPs: ['192.0.2.1'] }),
    ];
    const selection = select(both, { include: [...include, { namespace: 'a', name: 'zoo' }] });
    expect(selection.services.map(({ virtualServers }) => virtualServers.length)).toEqual([2, 1]);
    expect(selection.caveats).toMatchObject([{ name: 'zoo', reason: 'PartlyAccelerated' }]);
  });

  it('loses an IPv6 address also if it is written in another way', () => {
    const both = [
      service('a', 'web', { externalIPs: ['2001:db8::1'] }),
      service('a', 'zoo', { clusterIP: '10.96.0.2', externalIPs: ['2001:DB8:0:0::1'] }),
    ];
    const selection = select(both, { include: [...include, { namespace: 'a', name: 'zoo' }] });
    expect(selection.caveats).toMatchObject([{ name: 'zoo', reason: 'PartlyAccelerated' }]);
    expect(selection.caveats[0]?.message).toContain('[2001:db8::1]:80 (TCP)');
  });

  it('is chosen by label, port number and port name; exclude wins', () => {
    const ports = [
      { name: 'dns', port: 53, protocol: 'UDP' },
      { name: 'dns-tcp', port: 53, protocol: 'TCP' },
      { name: 'metrics', port: 9153, protocol: 'TCP' },
    ];
    const dns = service('a', 'web', { ports });
    const chosen = (wanted: (number | string)[]) =>
      select([dns], { include: [{ namespace: 'a', name: 'web', ports: wanted }] });
    expect(chosen([53]).virtualServers).toBe(2);
    expect(chosen(['metrics']).services[0]?.virtualServers[0]?.ports).toEqual([
      { port: 9153, protocol: 'TCP' },
    ]);
    expect(chosen(['metrics', 80]).caveats[0]?.message).toContain('no port 80');
    const selector = { namespaceSelector: { matchLabels: { team: 'x' } } };
    const namespaces = [{ metadata: { name: 'a', labels: { team: 'x' } } }];
    expect(select([dns], { include: [], selector }, { namespaces }).selected).toBe(1);
    expect(select([dns], { include: [], selector }).selected).toBe(0);
    expect(select([dns], { exclude: include }).selected).toBe(0);
  });

  it('says what its pods see that reach themselves', () => {
    const endpointSlices = [
      {
        metadata: { namespace: 'a', name: 'web-1', labels: { 'kubernetes.io/service-name': 'web' } },
        endpoints: [{ targetRef: { kind: 'Pod' } }],
      },
    ];
    expect(select([service('a', 'web')], {}, { endpointSlices }).caveats).toMatchObject([
      { reason: 'SelfAccessTranslated' },
    ]);
  });
});

describe('slices', () => {
  const policyRef = { name: 'p', uid: 'u' };
  const many = Array.from({ length: 10_000 }, (_, i) =>
    service('a', `s${String(i).padStart(5, '0')}`, {
      clusterIP: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`,
    }),
  );
  const list = (): readonly SliceService[] => select(many, { include: [], selector: {} }).services;

  it('are rewritten one at an edit, also at 10,000 Services', () => {
    const services = list();
    const slices = planSlices(policyRef, services, []).flatMap((step) =>
      step.kind === 'applySlice'
        ? [
            {
              apiVersion: 'ipvs-bpf.io/v1alpha1' as const,
              kind: 'IpvsBpfServiceSlice' as const,
              metadata: { name: step.name },
              spec: step.spec,
            },
          ]
        : [],
    );
    expect(slices.length).toBe(100);
    expect(planSlices(policyRef, services, slices)).toEqual([]);
    const edited = list().filter(({ name }) => name !== 's05000');
    const steps = planSlices(policyRef, edited, slices);
    expect(steps).toMatchObject([{ kind: 'applySlice' }]);
    expect(whitelistRevision(edited)).not.toBe(whitelistRevision(services));
    expect(planSlices(policyRef, [], slices).every(({ kind }) => kind === 'deleteSlice')).toBe(true);
  });

  it('are not computed anew for Services that are the same objects as before', () => {
    const before = list();
    const [first, ...others] = many;
    const moved = service('a', first?.metadata.name ?? '', { clusterIP: '10.255.0.1' });
    const after = select([moved, ...others], { include: [], selector: {} }).services;
    expect(after.filter((each, i) => each !== before[i])).toMatchObject([
      { name: 's00000', virtualServers: [{ addresses: ['10.255.0.1'] }] },
    ]);
    const [second] = others;
    const thief = service('a', 'a-thief', second?.spec);
    const robbed = select([thief, ...many], { include: [], selector: {} });
    expect(robbed.rejected).toMatchObject([{ name: second?.metadata.name, reason: 'AddressInUse' }]);
    expect(list()).toEqual(before);
  });

  it('are looked at again only when a list or the wish is another one', () => {
    const wish = policySpec({ services: { selector: {}, include: [], exclude: [], filtering: 'Respect' } });
    const all = facts({ services: [service('a', 'web'), service('a', 'db', { clusterIP: '10.96.0.2' })] });
    const first = selectServices(wish, all);
    expect(selectServices(policySpec({ services: { ...wish.services } }), { ...all })).toBe(first);
    const lists = ['services', 'namespaces', 'endpointSlices', 'networkPolicies'] as const;
    for (const list of lists) {
      const again = selectServices(wish, { ...all, [list]: [...all[list]] });
      expect(again).not.toBe(first);
      expect(again).toEqual(first);
    }
    const denied = { ...all, networkPolicies: [networkPolicy({ app: 'db' })] };
    expect(selectServices(wish, denied).services.map(({ name }) => name)).toEqual(['web']);
    for (let i = 0; i < 20; i += 1) {
      const exclude = [
        { namespace: 'a', name: i % 2 === 0 ? 'web' : 'db' },
        { namespace: 'b', name: `x${i}` },
      ];
      const names = selectServices({ ...wish, services: { ...wish.services, exclude } }, all).services;
      expect(names.map(({ name }) => name)).toEqual([i % 2 === 0 ? 'db' : 'web']);
    }
    expect(selectServices(wish, all)).toEqual(first);
  });

  it('become virtual servers of a node, with its own addresses', () => {
    const [found] = select([service('a', 'web', { ports: [{ port: 80, nodePort: 30080 }] })]).services;
    expect(virtualServersOf(found === undefined ? [] : [found], ['192.0.2.9', 'fe80::1'])).toMatchObject([
      {
        name: 'web',
        server: { address: '10.96.0.1', port: 80, protocol: 'TCP', snat: { mode: 'External' } },
      },
      { name: 'web', server: { address: '192.0.2.9', port: 30080, snat: { mode: 'Always' } } },
    ]);
  });
});

describe('prefixes', () => {
  it.each([
    [['10.0.0.0/24', '10.0.1.0/24', '10.0.1.0/25'], 64, ['10.0.0.0/23']],
    [['10.0.0.0/24', '10.0.2.0/24', 'fd00::/64'], 64, ['10.0.0.0/24', '10.0.2.0/24', 'fd00::/64']],
    [['10.0.0.0/24', '10.0.2.0/24', '10.9.0.0/24'], 2, ['10.0.0.0/22', '10.9.0.0/24']],
  ])('%j to %i', (prefixes, limit, expected) => {
    expect(aggregatePrefixes(prefixes, limit)).toEqual(expected);
  });
});
