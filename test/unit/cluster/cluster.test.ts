// SPDX-License-Identifier: Apache-2.0
import { X509Certificate } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { apiServerArgs, corefile } from '../../cluster/control-plane-args.ts';
import { packageNames } from '../../cluster/debian.ts';
import { singleStage } from '../../cluster/dockerfile.ts';
import { kubernetesGoMod, kubernetesProgram } from '../../cluster/go-modules.ts';
import { type IpFamilies, ipFamilies, parseIpFamilies } from '../../cluster/ip-families.ts';
import { layoutOf, maxNodes, nodeIdentities, nodeIdentity } from '../../cluster/layout.ts';
import { withLock } from '../../cluster/lock.ts';
import { dnsManifests, nodeManifests } from '../../cluster/manifests.ts';
import { cniConfig, containerdConfig, kubeletConfig, podRoutes } from '../../cluster/node-files.ts';
import { ensurePki } from '../../cluster/pki.ts';
import { parseStat } from '../../cluster/process-stat.ts';
import { ensureRunning, knownDaemons, runningPid, stop } from '../../cluster/processes.ts';
import { mergeSettings, readSettings, type Settings, writeSettings } from '../../cluster/settings.ts';
import { kubeconfig, kubeletUser, tokenFile } from '../../cluster/users.ts';
import { goVersion, kubernetesVersion, stagingVersion } from '../../cluster/versions.ts';
import { waitFor } from '../../cluster/wait.ts';

const present: Settings = {
  kubernetes: '1.34.4',
  kernel: '6.1',
  nodeKernels: {},
  nodes: 1,
  ipFamilies: 'ipv4',
  memoryMb: 2000,
  apiPort: 4000,
  images: [],
};
const fresh = { kubernetes: '1.34.4', apiPort: 5000 };

describe('versions of a cluster', () => {
  it('knows the newest release of a minor version', () => {
    expect(kubernetesVersion('1.34')).toBe('1.34.4');
    expect(kubernetesVersion('1.34.2')).toBe('1.34.2');
    expect(stagingVersion('1.34.4')).toBe('0.34.4');
  });

  it.each(['1.20', '1.20.1', '1.34.x', 'latest', '', 'v1.34'])('refuses "%s"', (text) => {
    expect(() => kubernetesVersion(text)).toThrow(/unknown Kubernetes version.*1\.34/);
  });

  it('reads what go prints', () => {
    expect(goVersion('go version go1.26.8 linux/amd64\n')).toEqual([1, 26]);
    expect(goVersion('go: not found')).toBeUndefined();
  });
});

describe('the module that Kubernetes is built in', () => {
  const upstream = [
    'module k8s.io/kubernetes',
    'go 1.24.0',
    'godebug default=go1.24',
    'replace (',
    '\tk8s.io/api => ./staging/src/k8s.io/api',
    '\tk8s.io/client-go => ./staging/src/k8s.io/client-go',
    '\texample.com/other => example.com/fork v1.0.0',
    ')',
  ].join('\n');

  it('takes each staging module from its published version', () => {
    expect(kubernetesGoMod(upstream, '1.34.4').trim().split('\n')).toEqual([
      'module cluster',
      'go 1.24.0',
      'godebug default=go1.24',
      'require k8s.io/kubernetes v1.34.4',
      'replace k8s.io/api => k8s.io/api v0.34.4',
      'replace k8s.io/client-go => k8s.io/client-go v0.34.4',
    ]);
  });

  it('fails when there are none', () => {
    expect(() => kubernetesGoMod('module x\n', '1.34.4')).toThrow('1.34.4 names no staging modules');
  });

  it('tells programs their version', () => {
    const { ldflags, module } = kubernetesProgram('kubelet', '1.34.4');
    expect(module).toBe('kubernetes-1.34.4');
    expect(ldflags).toContain('-X k8s.io/component-base/version.gitVersion=v1.34.4');
    expect(ldflags).toContain('version.gitMinor=34 ');
  });
});

describe('the layout of a cluster', () => {
  it('keeps clusters of one checkout apart', () => {
    const own = layoutOf('0123456789abcdef');
    const other = layoutOf('0123456789abcdef', 'e2e');
    expect(own.netns).toBe('ipvs-bpf-01234567');
    expect(other.netns).toBe('ipvs-bpf-01234567-e2e');
    expect(other.stateDir).not.toBe(own.stateDir);
  });

  it.each(['../x', 'A', 'a b', '-a', 'a'.repeat(21)])('refuses the name "%s"', (name) => {
    expect(() => layoutOf('0123456789abcdef', name)).toThrow('cluster name');
  });

  it('gives every node its own address, link address and pods', () => {
    const nodes = nodeIdentities(maxNodes);
    for (const key of ['name', 'address', 'address6', 'mac', 'podRange', 'podRange6'] as const) {
      expect(new Set(nodes.map((node) => node[key])).size).toBe(maxNodes);
    }
    expect(nodes[0]?.name).toBe('n1');
    expect(() => nodeIdentity(0)).toThrow();
    expect(() => nodeIdentity(maxNodes + 1)).toThrow();
  });
});

describe('settings of a cluster', () => {
  it('are the defaults at first', () => {
    expect(mergeSettings({}, undefined, fresh)).toEqual({
      ...fresh,
      kernel: '6.1',
      nodeKernels: {},
      nodes: 2,
      ipFamilies: 'ipv4',
      memoryMb: 3072,
      images: [],
    });
  });

  it('stay what they are, but for the number of nodes', () => {
    expect(mergeSettings({ nodes: 3 }, present, fresh)).toEqual({ ...present, nodes: 3 });
    expect(mergeSettings({ kernel: '6.1' }, present, fresh).nodes).toBe(2);
    expect(mergeSettings({ nodes: 0 }, present, fresh).nodes).toBe(0);
  });

  it.each([
    { kubernetes: '1.35.4' },
    { kernel: '6.12' as const },
    { memoryMb: 4000 },
    { ipFamilies: 'dual' as const },
  ])('cannot become %j', (wish) => {
    expect(() => mergeSettings(wish, present, fresh)).toThrow('take it down');
  });
});

describe('the families of a cluster', () => {
  const files = { pki: '/p', tokens: '/t', etcd: '/e', kubeconfigOf: (user: string) => `/${user}` };

  it.each<[IpFamilies, string, string]>([
    ['ipv4', '10.10.0.1', '10.96.0.0/16'],
    ['ipv6', 'fd10:10::1', 'fd10:96::/112'],
    ['dual', '10.10.0.1', '10.96.0.0/16,fd10:96::/112'],
  ])('%s: the API server is at %s, Services in %s', (families, advertised, services) => {
    const args = apiServerArgs(files, families);
    expect(args).toContain(`--advertise-address=${advertised}`);
    expect(args).toContain(`--service-cluster-ip-range=${services}`);
    expect(args.includes('--bind-address=::')).toBe(families !== 'ipv4');
  });

  it.each<[IpFamilies, string[], string[], string[]]>([
    ['ipv4', ['10.244.2.0/24'], ['10.96.0.10'], ['IPv4 10.10.0.1']],
    ['ipv6', ['fd10:244:0:2::/64'], ['fd10:96::a'], ['IPv6 fd10:10::1']],
    [
      'dual',
      ['10.244.2.0/24', 'fd10:244:0:2::/64'],
      ['10.96.0.10', 'fd10:96::a'],
      ['IPv4 10.10.0.1', 'IPv6 fd10:10::1'],
    ],
  ])('%s: pods have %j, DNS is at %j', (families, podCIDRs, dns, ends) => {
    const [node] = JSON.parse(nodeManifests([nodeIdentity(2)], families)).items;
    expect(node.spec).toEqual({ podCIDR: podCIDRs[0], podCIDRs });
    const { items } = JSON.parse(dnsManifests(families));
    const { spec } = items[0];
    expect(spec.clusterIPs ?? [spec.clusterIP]).toEqual(dns);
    const slices = items.filter(({ kind }: { kind: string }) => kind === 'EndpointSlice');
    const found = slices.map(
      (slice: { addressType: string; endpoints: { addresses: string[] }[] }) =>
        `${slice.addressType} ${slice.endpoints[0]?.addresses}`,
    );
    expect(found).toEqual(ends);
    const own = families === 'ipv4' ? 'bind 10.10.0.1\n' : 'bind 10.10.0.1 fd10:10::1\n';
    expect(corefile(files, families)).toContain(own);
  });

  it('are one of three', () => {
    expect(ipFamilies.map(parseIpFamilies)).toEqual(ipFamilies);
    expect(() => parseIpFamilies('both')).toThrow('unknown IP families both: use ipv4, ipv6, dual');
  });
});

describe('credentials', () => {
  it('fill the token file', () => {
    const users = [kubeletUser('n1'), { id: 'coredns', name: 'system:coredns', groups: [] }];
    expect(tokenFile(users, ({ id }) => `t-${id}`)).toBe(
      't-kubelet-n1,system:node:n1,kubelet-n1,"system:nodes"\nt-coredns,system:coredns,coredns\n',
    );
  });

  it('fill a kubeconfig that needs no file', () => {
    const config = JSON.parse(kubeconfig({ server: 'https://h:1', caPem: 'CA', token: 'T' }));
    expect(config.clusters[0].cluster.server).toBe('https://h:1');
    expect(atob(config.clusters[0].cluster['certificate-authority-data'])).toBe('CA');
    expect(config.users[0].user.token).toBe('T');
    expect(config['current-context']).toBe(config.contexts[0].name);
  });
});

describe('what a node reads', () => {
  it('leads to all other nodes’ pods', () => {
    const routes = (families: IpFamilies) => podRoutes(nodeIdentity(2), nodeIdentities(3), families);
    expect(routes('ipv4')).toBe('10.244.1.0/24 10.10.0.11 10.244.3.0/24 10.10.0.13');
    expect(routes('ipv6')).toBe('fd10:244:0:1::/64 fd10:10::11 fd10:244:0:3::/64 fd10:10::13');
    expect(routes('dual')).toBe(
      '10.244.1.0/24 10.10.0.11 fd10:244:0:1::/64 fd10:10::11 ' +
        '10.244.3.0/24 10.10.0.13 fd10:244:0:3::/64 fd10:10::13',
    );
  });

  it('names programs, pod range and DNS server', () => {
    expect(containerdConfig('/s')).toContain('BinaryName = "/s/usr/bin/crun"');
    expect(JSON.parse(cniConfig(nodeIdentity(3), 'ipv4')).plugins[0].ipam).toMatchObject({
      ranges: [[{ subnet: '10.244.3.0/24' }]],
      routes: [{ dst: '0.0.0.0/0' }],
    });
    expect(JSON.parse(kubeletConfig('ipv4'))).toMatchObject({
      clusterDNS: ['10.96.0.10'],
      cgroupDriver: 'cgroupfs',
    });
  });

  it('names both families in a cluster of both', () => {
    expect(JSON.parse(cniConfig(nodeIdentity(3), 'dual')).plugins[0].ipam).toMatchObject({
      ranges: [[{ subnet: '10.244.3.0/24' }], [{ subnet: 'fd10:244:0:3::/64' }]],
      routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
    });
    expect(JSON.parse(kubeletConfig('dual')).clusterDNS).toEqual(['10.96.0.10', 'fd10:96::a']);
  });
});

it('the last stage of a Dockerfile takes folders for the stages before it', () => {
  const text = 'ARG B=x\n\nFROM $B AS one\nRUN a\nFROM $B\nCOPY LICENSE ./\nCOPY --from=one /opt/a/ b/\n';
  expect(singleStage(text)).toBe('ARG B=x\n\nFROM $B\nCOPY LICENSE ./\nCOPY one/opt/a/ b/\n');
  expect(() => singleStage('RUN a\n')).toThrow('no FROM');
  const named = 'ARG B\nFROM a AS x\nRUN a\nFROM x AS y\nCOPY --from=x /m/ /\nFROM b\n';
  expect(singleStage(named, 'y')).toBe('ARG B\nFROM x AS y\nCOPY x/m/ /\n');
  expect(() => singleStage(named, 'z')).toThrow('no stage z');
});

it('a package list holds names and comments', () => {
  expect(packageNames('# all\na\n\nb # why\n')).toEqual(['a', 'b']);
});

it('state and times of a process are read behind its name', () => {
  const rest = Array.from({ length: 18 }, (_, index) => String(index)).join(' ');
  expect(parseStat(`12 (a) b (c) S ${rest} 4711 5`)).toEqual({ state: 'S', start: '4711', used: 10 + 11 });
});

describe('on this machine', () => {
  let directory = '';
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'ipvs-bpf-cluster-test-'));
  });
  afterEach(() => rm(directory, { recursive: true, force: true }));

  it('settings are what was written', async () => {
    const file = join(directory, 'new/cluster.json');
    expect(await readSettings(file)).toBeUndefined();
    await writeSettings(file, present);
    expect(await readSettings(file)).toEqual(present);
    await writeSettings(file, { ...present, ipFamilies: 'dual' });
    expect((await readSettings(file))?.ipFamilies).toBe('dual');
    const { ipFamilies: _, ...older } = present;
    await writeFile(file, JSON.stringify(older));
    expect(await readSettings(file)).toEqual(present);
  });

  it('only one holds the lock; that of an ended process is taken over', async () => {
    const file = join(directory, 'lock');
    await withLock(file, async () => {
      await expect(withLock(file, async () => undefined)).rejects.toThrow(
        `process ${process.pid} is changing`,
      );
    });
    await writeFile(file, '4194999\n');
    expect(await withLock(file, async () => 'done')).toBe('done');
  });

  it('a daemon is started once, known by its pid file, and ended', async () => {
    const place = { run: join(directory, 'run'), log: join(directory, 'log') };
    const daemon = { name: 'sleeper', command: ['sh', '-c', 'echo hello; exec sleep 60'] } as const;
    expect(await ensureRunning(daemon, place)).toBe(true);
    const pid = await runningPid('sleeper', place);
    expect(await ensureRunning(daemon, place)).toBe(false);
    expect(await runningPid('sleeper', place)).toBe(pid);
    expect(await knownDaemons(place)).toEqual(['sleeper']);
    await stop('sleeper', place);
    expect(await runningPid('sleeper', place)).toBeUndefined();
    expect(await knownDaemons(place)).toEqual([]);
  });

  it('certificates are signed for the names of the API server', async () => {
    const pki = join(directory, 'pki');
    await ensurePki(pki);
    const read = async (name: string) => new X509Certificate(await readFile(join(pki, name)));
    const [ca, server] = [await read('ca.crt'), await read('apiserver.crt')];
    expect(server.verify(ca.publicKey)).toBe(true);
    for (const address of ['10.96.0.1', '10.10.0.1', 'fd10:96::1', 'fd10:10::1']) {
      expect(server.checkIP(address)).toBe(address);
    }
    expect(server.checkHost('kubernetes.default.svc')).toBe('kubernetes.default.svc');
    expect((await read('kubelet-client.crt')).subject).toContain('O=system:masters');
    const before = await readFile(join(pki, 'ca.key'));
    await ensurePki(pki);
    expect(await readFile(join(pki, 'ca.key'))).toEqual(before);
  });

  it('waiting ends with the answer, the limit, or the error', async () => {
    let asked = 0;
    await waitFor('x', 1000, async () => ++asked === 3, 1);
    expect(asked).toBe(3);
    await expect(waitFor('the thing', 5, async () => false, 1)).rejects.toThrow('the thing: not ready');
    await expect(waitFor('x', 1000, () => Promise.reject(new Error('broken')))).rejects.toThrow('broken');
  });
});
