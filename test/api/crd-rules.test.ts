// SPDX-License-Identifier: Apache-2.0
/** Every rule of the CRDs against a real API server: what it accepts, what it refuses, and with which words. */
import { spawnSync } from 'node:child_process';
import { beforeAll, describe, expect, it } from 'vitest';

const kubectl = process.env.IPVS_BPF_TEST_KUBECTL ?? 'kubectl';
const kubeconfig = process.env.IPVS_BPF_TEST_KUBECONFIG ?? '';
const root = new URL('../../', import.meta.url).pathname;

function run(args: readonly string[], input?: unknown): { readonly ok: boolean; readonly text: string } {
  const { status, stdout, stderr } = spawnSync(kubectl, ['--kubeconfig', kubeconfig, ...args], {
    encoding: 'utf8',
    ...(input === undefined ? {} : { input: JSON.stringify(input) }),
  });
  return { ok: status === 0, text: `${stdout}${stderr}` };
}

const dryRun = (object: unknown) =>
  run(['create', '--dry-run=server', '--validate=strict', '-f', '-'], object);

type Fields = Readonly<Record<string, unknown>>;

const policy = (spec: Fields, name = 'p') => ({
  apiVersion: 'ipvs-bpf.io/v1alpha1',
  kind: 'IpvsBpfPolicy',
  metadata: { name },
  spec: { nodeSelector: {}, ...spec },
});

const node = (spec: Fields) => ({
  apiVersion: 'ipvs-bpf.io/v1alpha1',
  kind: 'IpvsBpfNode',
  metadata: { name: 'n1' },
  spec: { policyRef: { name: 'p', uid: 'u' }, action: 'Apply', mode: 'Enabled', revision: 'r1', ...spec },
});

const slice = (...addresses: readonly string[]) => ({
  apiVersion: 'ipvs-bpf.io/v1alpha1',
  kind: 'IpvsBpfServiceSlice',
  metadata: { name: 'p-0' },
  spec: {
    policyRef: { name: 'p', uid: 'u' },
    services: [
      { ...web, virtualServers: [{ addresses, ports: [{ port: 80, protocol: 'TCP' }], snatMode: 'Always' }] },
    ],
  },
});

const web = { namespace: 'a', name: 'web' };
const ports = (...list: unknown[]) => ({ services: { include: [{ ...web, ports: list }] } });
const expression = (fields: Fields) => ({ nodeSelector: { matchExpressions: [{ key: 'k', ...fields }] } });
const interfaces = (fields: Fields) => ({ datapath: { interfaces: fields } });
const mapping = (fields: Fields) => ({ module: { kernelMappings: [fields] } });
const grant = (revision: string) => ({ disruptionGrant: { revision, expiresAt: '2026-01-01T00:00:00Z' } });

/** What is accepted, what is refused, the field and the words of the refusal. */
const cases: readonly (readonly [string, unknown, unknown, string, string])[] = [
  [
    'mode',
    policy({ mode: 'Enabled', services: { include: [web] } }),
    policy({ mode: 'Enabled' }),
    'spec.services',
    'at least one entry in services.include',
  ],
  [
    'selector',
    policy({ mode: 'Enabled', services: { selector: {} } }),
    policy({ services: { selector: 3 } }),
    'spec.services.selector',
    'must be of type object',
  ],
  [
    'In',
    policy(expression({ operator: 'In', values: ['x'] })),
    policy(expression({ operator: 'In' })),
    'matchExpressions[0].values',
    'at least one entry for In',
  ],
  [
    'Exists',
    policy(expression({ operator: 'Exists' })),
    policy(expression({ operator: 'Exists', values: ['x'] })),
    'matchExpressions[0].values',
    'none for Exists',
  ],
  ['port number', policy(ports(1, 65535)), policy(ports(0)), 'include[0].ports[0]', 'from 1 to 65535'],
  ['port name', policy(ports('http')), policy(ports('HTTP')), 'include[0].ports[0]', 'the name of a port'],
  [
    'prefix',
    policy({ snat: { clusterCIDRs: ['10.0.0.0/8', 'fd00::/8'] } }),
    policy({ snat: { clusterCIDRs: ['10.0.0.1/8'] } }),
    'snat.clusterCIDRs[0]',
    'without host bits',
  ],
  [
    'IPv6 prefix',
    policy({ snat: { clusterCIDRs: ['::/0', '2001:db8:1::/48', 'fd00:10:244::7/128'] } }),
    policy({ snat: { clusterCIDRs: ['fd00:10:244::1/64'] } }),
    'snat.clusterCIDRs[0]',
    'without host bits',
  ],
  [
    'IPv6 prefix that is none',
    policy({ snat: { clusterCIDRs: ['fd00::/8'] } }),
    policy({ snat: { clusterCIDRs: ['10.0.0.0/8', 'fd00::/129'] } }),
    'snat.clusterCIDRs[1]',
    'must be a prefix',
  ],
  [
    'prefixes of a node',
    node({ snat: { clusterCIDRs: ['10.244.0.0/16', 'fd00:10:244::/56'] } }),
    node({ snat: { clusterCIDRs: ['fd00:10:244::'] } }),
    'snat.clusterCIDRs[0]',
    'must be a prefix',
  ],
  [
    'addresses of a Service',
    slice('10.96.0.1', 'fd00:10:96::1', '2001:0db8:0:0::1'),
    slice('10.96.0.1', 'fd00:10:96::g'),
    'addresses[1]',
    'must be an IPv4 or IPv6 address',
  ],
  [
    'addresses without a prefix length',
    slice('::1'),
    slice('fd00::1/128'),
    'addresses[0]',
    'must be an IPv4 or IPv6 address',
  ],
  [
    'interfaces',
    policy(interfaces({ autoDetect: 'Disabled', include: ['eth0'] })),
    policy(interfaces({ autoDetect: 'Disabled' })),
    'interfaces.include',
    'at least one interface',
  ],
  [
    'included name',
    policy(interfaces({ include: ['eth*'] })),
    policy(interfaces({ include: ['a/b'] })),
    'include[0]',
    'the name of an interface',
  ],
  [
    'excluded name',
    policy(interfaces({ exclude: ['docker?'] })),
    policy(interfaces({ exclude: ['..'] })),
    'exclude[0]',
    'the name of an interface',
  ],
  [
    'module path',
    policy({ module: { path: '/x' } }),
    policy({ module: { path: 'x' } }),
    'module.path',
    'absolute path',
  ],
  [
    'activation',
    policy({ module: { activation: 'NextBoot' } }),
    policy({ module: { activation: 'AtOnce' } }),
    'spec.module.activation',
    'supported values: "Live", "NextBoot"',
  ],
  [
    'activation of a node',
    node({ module: { activation: 'NextBoot' } }),
    node({ module: { activation: 'AtOnce' } }),
    'spec.module.activation',
    'supported values: "Live", "NextBoot"',
  ],
  [
    'one of path',
    policy(mapping({ literal: 'k', path: '/x' })),
    policy({ module: { path: '/x', kernelMappings: [{ literal: 'k', path: '/x' }] } }),
    'spec.module',
    'only one of path and kernelMappings',
  ],
  [
    'one of regexp',
    policy(mapping({ regexp: '6.*', path: '/x' })),
    policy(mapping({ regexp: '6', literal: '6', path: '/x' })),
    'kernelMappings[0]',
    'exactly one of literal and regexp',
  ],
  [
    'mapping without a module',
    policy(mapping({ literal: '6', path: '/x' })),
    policy(mapping({ literal: '6' })),
    'kernelMappings[0]',
    'exactly one of path and image must be set',
  ],
  [
    'mapping with two modules',
    policy(mapping({ literal: '6', image: 'r:5000/a/ip-vs:6' })),
    policy(mapping({ literal: '6', image: 'r/ip-vs:6', path: '/x' })),
    'kernelMappings[0]',
    'exactly one of path and image must be set',
  ],
  [
    'image without a tag',
    policy(mapping({ regexp: '.*', image: 'r/ip-vs:$' + '{KERNEL_FULL_VERSION}' })),
    policy(mapping({ regexp: '.*', image: 'r:5000/ip-vs' })),
    'kernelMappings[0].image',
    'a tag or a digest',
  ],
  [
    'image with half a digest',
    policy(mapping({ regexp: '.*', image: `ip-vs@sha256:${'0'.repeat(64)}` })),
    policy(mapping({ regexp: '.*', image: 'ip-vs@sha256:00' })),
    'kernelMappings[0].image',
    'a tag or a digest',
  ],
  [
    'mapped path',
    policy(mapping({ literal: '6', path: '/x' })),
    policy(mapping({ literal: '6', path: 'x' })),
    'kernelMappings[0].path',
    'absolute path',
  ],
  [
    'maxUnavailable',
    policy({ rollout: { maxUnavailable: 3 } }),
    policy({ rollout: { maxUnavailable: 0 } }),
    'rollout.maxUnavailable',
    '1 or more',
  ],
  [
    'percentage',
    policy({ rollout: { maxUnavailable: '100%' } }),
    policy({ rollout: { maxUnavailable: '0%' } }),
    'rollout.maxUnavailable',
    'from 1% to 100%',
  ],
  [
    'time-outs',
    policy({ rollout: { stepTimeoutSeconds: 60, nodeTimeoutSeconds: 60 } }),
    policy({ rollout: { stepTimeoutSeconds: 1000, nodeTimeoutSeconds: 60 } }),
    'rollout.stepTimeoutSeconds',
    'not be more than nodeTimeoutSeconds',
  ],
  [
    'native',
    node({ action: 'Revert', revision: 'native' }),
    node({ action: 'Revert' }),
    'spec.revision',
    'must be "native" for action Revert',
  ],
  ['grant', node(grant('r1')), node(grant('r2')), 'disruptionGrant.revision', 'the same as revision'],
  ['unknown field', policy({}), policy({ nodeSelektor: {} }), 'spec.nodeSelektor', 'unknown field'],
  ['required field', policy({}), policy({ nodeSelector: undefined }), 'spec.nodeSelector', 'Required value'],
];

beforeAll(() => {
  const applied = run(['apply', '--server-side', '-f', `${root}crds`]);
  expect(applied.text).toContain('serverside-applied');
  expect(applied.ok, applied.text).toBe(true);
  const crds = ['ipvsbpfpolicies', 'ipvsbpfnodes', 'ipvsbpfserviceslices'].map(
    (name) => `crd/${name}.ipvs-bpf.io`,
  );
  expect(run(['wait', '--for=condition=Established', '--timeout=30s', ...crds]).ok).toBe(true);
}, 60_000);

describe('the API server', () => {
  it.each(cases)('%s', (_, accepted, refused, field, words) => {
    const good = dryRun(accepted);
    expect(good.ok, good.text).toBe(true);
    const bad = dryRun(refused);
    expect(bad.ok).toBe(false);
    expect(bad.text).toContain(field);
    expect(bad.text).toContain(words);
  });

  it('explains every kind', () => {
    for (const [path, words] of [
      ['ipvsbpfpolicy.spec.rollout.maxUnavailable', 'Nodes of the policy that may be unavailable'],
      ['ibn.spec.disruptionGrant', 'Permission to disrupt the node'],
      ['ibs.spec.services', 'what the nodes accelerate'],
    ] as const) {
      expect(run(['explain', path]).text.replaceAll(/\s+/g, ' ')).toContain(words);
    }
  });
});
