// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { generate } from '../../../scripts/generate.ts';
import { formatProblem, nearestName } from '../../../src/api/problems.ts';
import { parseNodeConfig } from '../../../src/core/node-config.ts';

const ROOT = new URL('../../../', import.meta.url).pathname;
const VALID = {
  apiVersion: 'ipvs-bpf.io/v1alpha1',
  kind: 'NodeConfig',
  mode: 'Enabled',
  services: { virtualServers: [{ address: '198.51.100.10', port: 80, protocol: 'TCP' }] },
};
const server = { address: '198.51.100.10', port: 80, protocol: 'TCP' };

function problemsOf(change: Readonly<Record<string, unknown>>): readonly string[] {
  const parsed = parseNodeConfig({ ...VALID, ...change });
  return parsed.ok ? [] : parsed.problems.map(formatProblem);
}

describe('a config', () => {
  it('gets every default', () => {
    expect(parseNodeConfig(VALID)).toEqual({
      ok: true,
      config: {
        ...VALID,
        services: { all: false, virtualServers: [server] },
        snat: { mode: 'Always', clusterCIDRs: [] },
        ipvs: {},
        datapath: {
          interfaces: { autoDetect: 'Enabled', include: [], exclude: [] },
          sessionMapMaxEntries: 262144,
          onMapFull: 'Bypass',
        },
        module: { activation: 'Live' },
      },
    });
  });

  it('has addresses and prefixes in one form afterwards', () => {
    const parsed = parseNodeConfig({
      ...VALID,
      services: { virtualServers: [{ ...server, address: '2001:DB8:0::1' }] },
      snat: { clusterCIDRs: ['fd00:0::/8', '10.0.0.0/8', '10.0.0.0/8'] },
    });
    expect(parsed.ok && parsed.config.services.virtualServers[0]?.address).toBe('2001:db8::1');
    expect(parsed.ok && parsed.config.snat.clusterCIDRs).toEqual(['10.0.0.0/8', 'fd00::/8']);
  });

  it('accepts the example in docs', () => {
    expect(
      parseNodeConfig(parse(readFileSync(`${ROOT}docs/examples/node-config.yaml`, 'utf8'))),
    ).toMatchObject({ ok: true });
  });

  it('accepts what is not accelerated', () => {
    const virtualServers = [
      { ...server, address: 'fe80::1' },
      { ...server, protocol: 'SCTP' },
    ];
    expect(problemsOf({ services: { virtualServers } })).toEqual([]);
  });

  it('is not changed by parsing', () => {
    const document = structuredClone(VALID);
    parseNodeConfig(document);
    expect(document).toEqual(VALID);
  });
});

describe('a problem', () => {
  it.each([
    { change: { mode: 'On' }, problem: 'mode: "On": must be one of Enabled, Disabled' },
    { change: { apiVersion: 'v1' }, problem: 'apiVersion: "v1": must be ipvs-bpf.io/v1alpha1' },
    { change: { kind: 'Pod' }, problem: 'kind: "Pod": must be NodeConfig' },
    { change: { servces: {} }, problem: 'servces: {}: is not a field here; did you mean services?' },
    {
      change: { zzzzzzzzzz: 1 },
      problem:
        'zzzzzzzzzz: 1: is not a field here; the fields are apiVersion, kind, mode, services, snat, ipvs, datapath, module',
    },
    {
      change: { services: 7 },
      problem: 'services: 7: must be an object with the fields all, virtualServers',
    },
    { change: { services: {} }, problem: 'services: {}: must list virtualServers or say all: true' },
    {
      change: { services: { all: true, virtualServers: [server] } },
      problem:
        'services.all: true: must be false or unset when services.virtualServers lists virtual servers',
    },
    { change: { services: { all: 'yes' } }, problem: 'services.all: "yes": must be true or false' },
    {
      change: { services: { virtualServers: [{ ...server, port: 70000 }] } },
      problem: 'services.virtualServers[0].port: 70000: must be an integer from 1 to 65535',
    },
    {
      change: { services: { virtualServers: [{ address: '192.0.2.1', port: 1 }] } },
      problem: 'services.virtualServers[0].protocol: is required and must be one of TCP, UDP, SCTP',
    },
    {
      change: { services: { virtualServers: [{ ...server, address: '192.0.2' }] } },
      problem:
        'services.virtualServers[0].address: "192.0.2": must be an IPv4 or IPv6 address such as 198.51.100.10 or 2001:db8::10',
    },
    {
      change: { services: { virtualServers: [{ ...server, address: '2001:db8::g' }] } },
      problem:
        'services.virtualServers[0].address: "2001:db8::g": must be an IPv4 or IPv6 address such as 198.51.100.10 or 2001:db8::10',
    },
    {
      change: { services: { virtualServers: [{ ...server, address: '::' }] } },
      problem:
        'services.virtualServers[0].address: "::": must be an IPv4 or IPv6 address such as 198.51.100.10 or 2001:db8::10',
    },
    {
      change: { services: { virtualServers: [{ ...server, address: '::ffff:192.0.2.1' }] } },
      problem:
        'services.virtualServers[0].address: "::ffff:192.0.2.1": must be 192.0.2.1, if that is meant: an IPv6 ' +
        'address cannot hold an IPv4 one',
    },
    {
      change: {
        services: {
          virtualServers: [
            { ...server, address: '2001:db8::1' },
            { ...server, address: '2001:DB8:0::1' },
          ],
        },
      },
      problem:
        'services.virtualServers[1]: {"address":"2001:DB8:0::1","port":80,"protocol":"TCP"}: must differ from ' +
        'services.virtualServers[0]: address, port and protocol are the same',
    },
    {
      change: { snat: { clusterCIDRs: ['fd00::1/8'] } },
      problem: 'snat.clusterCIDRs[0]: "fd00::1/8": must have no host bits; the network is fd00::/8',
    },
    {
      change: { snat: { clusterCIDRs: ['fd00::/129'] } },
      problem: 'snat.clusterCIDRs[0]: "fd00::/129": must be a prefix such as 10.0.0.0/8 or fd00::/8',
    },
    {
      change: { snat: { clusterCIDRs: ['::ffff:10.0.0.0/104'] } },
      problem:
        'snat.clusterCIDRs[0]: "::ffff:10.0.0.0/104": must have no host bits; the network is 10.0.0.0/8',
    },
    {
      change: { services: { virtualServers: [server, { ...server, port: 81 }, server] } },
      problem:
        'services.virtualServers[2]: {"address":"198.51.100.10","port":80,"protocol":"TCP"}: must differ from ' +
        'services.virtualServers[0]: address, port and protocol are the same',
    },
    {
      change: { snat: { clusterCIDRs: ['10.1.0.0/8'] } },
      problem: 'snat.clusterCIDRs[0]: "10.1.0.0/8": must have no host bits; the network is 10.0.0.0/8',
    },
    {
      change: { snat: { clusterCIDRs: ['10.0.0.0'] } },
      problem: 'snat.clusterCIDRs[0]: "10.0.0.0": must be a prefix such as 10.0.0.0/8 or fd00::/8',
    },
    {
      change: { ipvs: { connReuseMode: 4 } },
      problem: 'ipvs.connReuseMode: 4: must be an integer from 0 to 3',
    },
    {
      change: { datapath: { sessionMapMaxEntries: 1 } },
      problem: 'datapath.sessionMapMaxEntries: 1: must be an integer from 1024 to 8388608',
    },
    {
      change: { datapath: { onMapFull: 'Wait' } },
      problem: 'datapath.onMapFull: "Wait": must be one of Bypass, Drop',
    },
    {
      change: { datapath: { interfaces: { autoDetect: 'Disabled' } } },
      problem:
        'datapath.interfaces.include: []: must name at least one interface when autoDetect is Disabled',
    },
    {
      change: { datapath: { interfaces: { exclude: ['eth 0'] } } },
      problem:
        'datapath.interfaces.exclude[0]: "eth 0": must be the name of an interface, without spaces, "/" or ":"; ' +
        '* and ? are wildcards',
    },
    {
      change: { module: { activation: 'Later' } },
      problem: 'module.activation: "Later": must be one of Live, NextBoot',
    },
    {
      change: { module: { path: 'ip_vs.ko' } },
      problem: 'module.path: "ip_vs.ko": must be an absolute path, from "/"',
    },
  ])('says where, what and what else: $problem', ({ change, problem }) => {
    expect(problemsOf(change)).toEqual([problem]);
  });

  it('is reported together with all others, of the schema and between fields', () => {
    expect(
      problemsOf({
        mode: 'On',
        services: {
          virtualServers: [
            { ...server, port: 0 },
            { ...server, address: 'x' },
          ],
        },
        snat: { clusterCIDRs: ['x'] },
        module: { path: 'x' },
      }).map((text) => text.split(':')[0]),
    ).toEqual([
      'mode',
      'services.virtualServers[0].port',
      'services.virtualServers[1].address',
      'snat.clusterCIDRs[0]',
      'module.path',
    ]);
  });

  it.each([undefined, null, 7, 'text', []])('is found in a document that is no object: %j', (document) => {
    expect(parseNodeConfig(document)).toMatchObject({ ok: false });
  });
});

describe('a nearest name', () => {
  it.each([
    ['clusterCIDRS', 'clusterCIDRs'],
    ['protocl', 'protocol'],
    ['xyz', undefined],
  ])('%s is %s', (name, expected) => {
    expect(nearestName(name, ['clusterCIDRs', 'protocol', 'mode'])).toBe(expected);
  });
});

describe('generated files', () => {
  it('are what the CRD makes of them', async () => {
    for (const [path, content] of await generate(ROOT))
      expect(readFileSync(`${ROOT}${path}`, 'utf8'), path).toBe(content);
  });
});
