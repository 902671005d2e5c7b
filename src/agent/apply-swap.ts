// SPDX-License-Identifier: Apache-2.0
/** What an exchange of modules does to those who use IPVS meanwhile: kube-proxy, and the netlink family's id. */
import { HostError } from '../core/errors.ts';
import { isTestServer } from '../core/self-check-network.ts';
import type { ProcessIdentity } from '../ports.ts';
import { withMessages } from './apply-connections.ts';
import type { NodePorts } from './observe.ts';

const IN_USE_ATTEMPTS = 50;
const IN_USE_PAUSE_MS = 100;
/** Somebody else may register a family between the aim and the module. */
const AIM_ATTEMPTS = 3;
/** kube-proxy goes on after this time whatever happens; an exchange takes a tenth of it. */
const FREEZE_SECONDS = 60;

/** On disk first: whoever comes after a crash lets them go on. */
export async function freezeProxy(
  planned: readonly ProcessIdentity[],
  { kubeProxy, records, host }: NodePorts,
): Promise<void> {
  const { frozen } = await records.read();
  const processes = distinct([...planned, ...(frozen?.processes ?? []), ...(await kubeProxy.processes())]);
  await records.writeFrozen({ bootId: await host.bootId(), processes });
  for (const process of processes) await kubeProxy.freeze(process, FREEZE_SECONDS);
}

/** Goes on after a failure: each process that runs is one less to repair. */
export async function thawProxy(
  planned: readonly ProcessIdentity[],
  { kubeProxy, records }: NodePorts,
): Promise<void> {
  const { frozen } = await records.read();
  const errors: unknown[] = [];
  for (const process of distinct([...planned, ...(frozen?.processes ?? [])])) {
    try {
      await kubeProxy.thaw(process);
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 0) throw errors[0];
  await records.writeFrozen(undefined);
}

function distinct(processes: readonly ProcessIdentity[]): readonly ProcessIdentity[] {
  return [...new Map(processes.map((process) => [`${process.pid} ${process.startTime}`, process])).values()];
}

/** What the probe saw counts more than when the flush began and the table was back. */
export async function stopOutageProbe({ outageProbe, records }: NodePorts): Promise<void> {
  const { lastDisruption, saved } = await records.read();
  const result = await outageProbe.stop();
  if (saved?.virtualServers.some(isTestServer)) {
    // Whoever goes back to this table later goes back without the probe.
    const virtualServers = saved.virtualServers.filter((server) => !isTestServer(server));
    await records.writeSavedTable({ ...saved, virtualServers });
  }
  if (lastDisruption?.measuredBy !== 'Timestamps') return;
  if (!result.measured) return records.writeDisruption(withMessages(lastDisruption, [result.why]));
  const { longestGapMilliseconds: outageMilliseconds, probesLost } = result.outage;
  await records.writeDisruption({ ...lastDisruption, measuredBy: 'Probe', outageMilliseconds, probesLost });
}

/** Loads ip_vs, again if its family did not get the id that others go on to use. */
export async function withFamilyId(
  familyId: number | undefined,
  load: () => Promise<void>,
  ports: NodePorts,
): Promise<void> {
  await load();
  if (familyId === undefined) return;
  for (let attempt = 1; (await ports.ipvs.familyId()) !== familyId; attempt += 1) {
    if (attempt >= AIM_ATTEMPTS) {
      throw new HostError(`the netlink family of ip_vs did not get the id ${familyId} again`, {
        code: 'Busy',
        retry: true,
        advice: 'Other modules register netlink families all the time; restart kube-proxy if it runs.',
      });
    }
    await removeModule('ip_vs', ports);
    await ports.modules.aimFamilyId(familyId);
    await load();
  }
}

/**
 * A module that is not loaded is what is wanted. References may take a moment to go after a flush, and after
 * programs that call it.
 */
export async function removeModule(name: string, ports: NodePorts): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    const loaded = (await ports.modules.list()).find((module) => module.name === name);
    if (loaded === undefined) return;
    for (const holder of loaded.holders) await removeModule(holder, ports);
    try {
      return await ports.modules.remove(name);
    } catch (error) {
      if (!(error instanceof HostError) || error.code !== 'ModuleInUse' || attempt >= IN_USE_ATTEMPTS)
        throw error;
    }
    await ports.clock.sleep(IN_USE_PAUSE_MS);
  }
}
