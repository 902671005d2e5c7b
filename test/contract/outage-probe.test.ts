// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { exec } from '../../src/adapters/exec.ts';
import { NetlinkIpvs } from '../../src/adapters/ipvs.ts';
import { NetlinkLinks } from '../../src/adapters/links.ts';
import { VethOutageProbe } from '../../src/adapters/outage-probe.ts';
import { isTestServer } from '../../src/core/self-check-network.ts';
import type { Ipvs, OutageProbe } from '../../src/ports.ts';
import { fakeNode } from '../fakes/fake-node.ts';
import { ON_REAL_KERNEL, type Subject } from './subject.ts';

interface Outside {
  readonly ipvs: Ipvs;
  loadIpvs(): Promise<void>;
  wait(milliseconds: number): Promise<void>;
  /** Names of interfaces. */
  links(): Promise<readonly string[]>;
}

async function realSubject(): Promise<Subject<OutageProbe, Outside>> {
  const links = new NetlinkLinks();
  const ipvs = new NetlinkIpvs();
  const clock = {
    now: () => performance.now(),
    date: () => new Date().toISOString(),
    sleep: async (milliseconds: number) => void (await sleep(milliseconds)),
  };
  const probe = new VethOutageProbe({ links, ipvs, clock });
  const outside: Outside = {
    ipvs,
    loadIpvs: async () => void (await exec('modprobe', ['ip_vs_rr'])),
    wait: clock.sleep,
    links: async () => (await links.list()).map(({ name }) => name),
  };
  const cleanup = async (): Promise<void> => {
    await probe.abort();
    await exec('sh', ['-c', 'rmmod ip_vs_rr ip_vs 2>/dev/null; true']);
    await ipvs.close();
  };
  return { port: probe, outside, cleanup };
}

async function fakeSubject(): Promise<Subject<OutageProbe, Outside>> {
  const { machine, outageProbe, ports } = fakeNode();
  const outside: Outside = {
    ipvs: machine.ipvs,
    loadIpvs: async () => machine.modules.probe('ip_vs_rr'),
    wait: (milliseconds) => ports.clock.sleep(milliseconds),
    links: async () => (await machine.links.list()).map(({ name }) => name),
  };
  return { port: outageProbe, outside, cleanup: async () => undefined };
}

const subject = ON_REAL_KERNEL ? { name: 'kernel', make: realSubject } : { name: 'fake', make: fakeSubject };

describe.each([subject])('OutageProbe ($name)', ({ make }) => {
  let probe: OutageProbe;
  let outside: Outside;
  let cleanup: () => Promise<void>;
  beforeEach(async () => {
    ({ port: probe, outside, cleanup } = await make());
  });
  afterEach(() => cleanup());

  it('tells how long its virtual server was gone, and leaves nothing behind', async () => {
    await outside.loadIpvs();
    const before = await outside.links();
    await probe.start('rr');
    const table = await outside.ipvs.virtualServers();
    expect(table.map(isTestServer)).toEqual([true]);
    await outside.wait(100);
    await outside.ipvs.flush();
    await outside.wait(500);
    await outside.ipvs.restore(table);
    const result = await probe.stop();
    if (!result.measured) throw new Error(result.why);
    expect(result.outage.longestGapMilliseconds).toBeGreaterThanOrEqual(500);
    expect(result.outage.longestGapMilliseconds).toBeLessThan(5_000);
    expect(result.outage.probesLost).toBeGreaterThan(0);
    expect(await outside.ipvs.virtualServers()).toEqual([]);
    expect(await outside.links()).toEqual(before);
  });

  it('says so if there is no answer any more, and ends', async () => {
    await outside.loadIpvs();
    await probe.start('rr');
    await outside.ipvs.flush();
    expect(await probe.stop()).toMatchObject({ measured: false });
    expect(await probe.stop()).toMatchObject({ measured: false });
  });

  it('hinders nobody where it cannot work, and leaves nothing behind', async () => {
    const before = await outside.links();
    await probe.start('rr');
    expect(await outside.links()).toEqual(before);
    expect(await probe.stop()).toMatchObject({ measured: false });
  });

  it('ends when it is told to, as often as it is told', async () => {
    await outside.loadIpvs();
    const before = await outside.links();
    await probe.start('rr');
    await probe.abort();
    await probe.abort();
    expect(await outside.ipvs.virtualServers()).toEqual([]);
    expect(await outside.links()).toEqual(before);
  });
});
