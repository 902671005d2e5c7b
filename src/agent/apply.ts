// SPDX-License-Identifier: Apache-2.0
/** One executor for each kind of step. Each may run again after it was interrupted. */
import { isModuleControl, type SavedTable, toldParameters } from '../core/facts.ts';
import type { Step } from '../core/steps.ts';
import { holdTraffic, restoreConnections, saveConnections, trackSessions } from './apply-connections.ts';
import { freezeProxy, removeModule, stopOutageProbe, thawProxy, withFamilyId } from './apply-swap.ts';
import type { NodePorts } from './observe.ts';

const VS = 'net/ipv4/vs';
const EXPIRE_NODEST = `${VS}/expire_nodest_conn`;
const DRAIN_PAUSE_MS = 500;

/** Carries out one step. Throws what the port throws. */
export async function applyStep(step: Step, ports: NodePorts): Promise<void> {
  switch (step.kind) {
    case 'recordBaseline':
      await ports.records.writeSavedTable(undefined);
      return ports.records.writeBaseline(step.baseline);
    case 'forgetAll':
      return ports.records.clear();
    case 'saveTable':
      return ports.records.writeSavedTable(await tableToSave(step, ports));
    case 'freezeProxy':
      return freezeProxy(step.processes, ports);
    case 'thawProxy':
      return thawProxy(step.processes, ports);
    case 'forgetTable':
      return forgetTable(ports);
    case 'holdTraffic':
      return holdTraffic(ports);
    case 'releaseTraffic':
      return ports.datapath.release();
    case 'trackSessions':
      return trackSessions(ports);
    case 'saveConnections':
      return saveConnections(ports);
    case 'flush':
      return flush(ports);
    case 'restoreTable':
      return restoreTable(ports);
    case 'restoreConnections':
      return restoreConnections(ports);
    case 'startOutageProbe':
      return ports.outageProbe.start(step.scheduler);
    case 'stopOutageProbe':
      return stopOutageProbe(ports);
    case 'selfCheck':
      return ports.selfCheck.run(await takeServiceId(ports));
    case 'removeSelfCheck':
      return ports.selfCheck.remove();
    case 'drain':
      return drain(step.timeoutMs, ports);
    case 'writeSysctl':
      return writeSysctl(step.name, step.value, ports);
    case 'setSwitch':
      return setSwitch(step.on, ports);
    default:
      return applyModuleStep(step, ports);
  }
}

type Handled =
  | 'recordBaseline'
  | 'forgetAll'
  | 'saveTable'
  | 'freezeProxy'
  | 'thawProxy'
  | 'forgetTable'
  | 'holdTraffic'
  | 'releaseTraffic'
  | 'trackSessions'
  | 'saveConnections'
  | 'flush'
  | 'restoreTable'
  | 'restoreConnections'
  | 'startOutageProbe'
  | 'stopOutageProbe'
  | 'selfCheck'
  | 'removeSelfCheck'
  | 'drain'
  | 'writeSysctl'
  | 'setSwitch';
type ModuleStepKind =
  | 'readModule'
  | 'blockAutoload'
  | 'unblockAutoload'
  | 'aimFamilyId'
  | 'removeModule'
  | 'loadModule'
  | 'insertModule'
  | 'armBoot'
  | 'disarmBoot'
  | 'confirmBoot'
  | 'removeUnused';

async function applyModuleStep(step: Exclude<Step, { kind: Handled }>, ports: NodePorts): Promise<void> {
  const { modules } = ports;
  switch (step.kind) {
    case 'readModule':
      return modules.readAhead(step.module);
    case 'blockAutoload':
      return modules.blockAutoload('ip_vs');
    case 'unblockAutoload':
      return modules.unblockAutoload('ip_vs');
    case 'aimFamilyId':
      return modules.aimFamilyId(step.id);
    case 'removeModule':
      return removeModule(step.name, ports);
    case 'loadModule':
      return withFamilyId(step.familyId, () => modules.load(step.name, step.parameters), ports);
    case 'insertModule':
      return withFamilyId(step.familyId, () => insertModule(step, ports), ports);
    case 'removeUnused':
      return removeUnused(step.names, ports);
    case 'armBoot':
      return armBoot(step, ports);
    case 'disarmBoot':
      return ports.boot.disarm();
    case 'confirmBoot':
      return ports.boot.confirm();
    default:
      return applyDatapathStep(step, ports);
  }
}

async function applyDatapathStep(
  step: Exclude<Step, { kind: Handled | ModuleStepKind }>,
  { datapath, records }: NodePorts,
): Promise<void> {
  switch (step.kind) {
    case 'loadDatapath':
      await datapath.load(step.options);
      return;
    case 'releaseModule':
      await datapath.load({ ...step.options, withoutModule: true });
      return;
    case 'unloadDatapath':
      return datapath.unload();
    case 'giveMaps':
      return datapath.giveMapsToModule();
    case 'putSnatAddress':
      return datapath.putSnatAddress(step.entry);
    case 'putSnatInterface':
      return datapath.putSnatInterface(step.entry);
    case 'removeSnatInterface':
      return datapath.removeSnatInterface(step.entry);
    case 'putClusterPrefix':
      return datapath.putClusterPrefix(step.prefix);
    case 'removeClusterPrefix':
      return datapath.removeClusterPrefix(step.prefix);
    case 'putPeerInterface':
      return datapath.putPeerInterface(step.ifindex);
    case 'removePeerInterface':
      return datapath.removePeerInterface(step.ifindex);
    case 'attach':
      return datapath.attach(step.ifindex, step.direction);
    case 'detach':
      return datapath.detach(step.ifindex, step.direction);
    case 'putService':
      // On disk first: after a crash no other virtual server may get one of these ids.
      if (step.lastId !== undefined) await records.writeLastServiceId(step.lastId);
      return datapath.putService(step.entry);
    case 'removeService':
      return datapath.removeService(step.entry);
    default:
      return assertNever(step);
  }
}

function assertNever(step: never): never {
  throw new Error(`no executor for ${JSON.stringify(step)}`);
}

async function tableToSave(
  step: { readonly table?: SavedTable; readonly fresh?: boolean },
  ports: NodePorts,
): Promise<SavedTable | undefined> {
  const { table, fresh = false } = step;
  if (table === undefined) return currentTable(ports);
  if (!fresh || !(await ports.ipvs.available())) return table;
  return { ...table, virtualServers: await ports.ipvs.virtualServers({ exact: true }) };
}

async function currentTable({ ipvs, modules, host }: NodePorts): Promise<SavedTable | undefined> {
  if (!(await ipvs.available())) return undefined;
  const sysctls: Record<string, string> = {};
  for (const name of await host.listSysctls(VS)) {
    const value = isModuleControl(name) ? undefined : await host.readSysctl(`${VS}/${name}`);
    if (value !== undefined) sysctls[name] = value;
  }
  const familyId = await ipvs.familyId();
  const loaded = await modules.list();
  return {
    bootId: await host.bootId(),
    flushed: false,
    ...(familyId === undefined ? {} : { familyId }),
    virtualServers: await ipvs.virtualServers({ exact: true }),
    timeouts: await ipvs.timeouts(),
    sysctls,
    helpers: loaded.map(({ name }) => name).filter((name) => name.startsWith('ip_vs_')),
    parameters: toldParameters(loaded),
  };
}

/** The table last: as long as it is there, a run that goes on restores both. */
async function forgetTable({ records }: NodePorts): Promise<void> {
  await records.writeConnections(undefined);
  await records.writeSavedTable(undefined);
}

/** From here on the table on disk is the one that counts. */
async function flush({ ipvs, connections: ofIpvs, records, clock, host }: NodePorts): Promise<void> {
  await ofIpvs.endRestore();
  const { saved } = await records.read();
  if (saved !== undefined && !saved.flushed) {
    const connections = await ipvs.connectionCount();
    await records.writeSavedTable({ ...saved, flushed: true, connections, flushedAtMs: clock.now() });
  }
  // Or the kernel ends connections with their real servers, and what connection tracking knows of them. The value comes
  // back with the table.
  if ((await host.readSysctl(EXPIRE_NODEST)) === '1') await host.writeSysctl(EXPIRE_NODEST, '0');
  if (await ipvs.available()) await ipvs.flush();
}

async function restoreTable({ ipvs, host, records, clock }: NodePorts): Promise<void> {
  const { saved } = await records.read();
  if (saved === undefined) return;
  const present = new Set(await host.listSysctls(VS));
  for (const [name, value] of Object.entries(saved.sysctls)) {
    if (!present.has(name) || (await host.readSysctl(`${VS}/${name}`)) === value) continue;
    await host.writeSysctl(`${VS}/${name}`, value);
  }
  if (saved.timeouts !== undefined) await ipvs.setTimeouts(saved.timeouts);
  if (saved.virtualServers.length > 0) await ipvs.restore(saved.virtualServers);
  if (saved.flushedAtMs === undefined) return;
  await records.writeDisruption({
    outageMilliseconds: Math.max(0, Math.round(clock.now() - saved.flushedAtMs)),
    measuredBy: 'Timestamps',
    connectionsDropped: saved.connections ?? 0,
    at: clock.date(),
  });
}

async function insertModule(
  { file, srcversion, parameters }: Extract<Step, { kind: 'insertModule' }>,
  { modules }: NodePorts,
): Promise<void> {
  const loaded = (await modules.list()).find(({ name }) => name === 'ip_vs');
  if (loaded?.srcversion === srcversion) return;
  await modules.insertFile(file, parameters);
}

async function armBoot(
  { file, srcversion }: { readonly file: string; readonly srcversion: string },
  { boot, modules, host }: NodePorts,
): Promise<void> {
  await boot.arm({ file, srcversion, kernelRelease: await modules.release(), bootId: await host.bootId() });
}

async function removeUnused(names: readonly string[], { modules }: NodePorts): Promise<void> {
  for (const name of names) {
    const loaded = (await modules.list()).find((module) => module.name === name);
    if (loaded !== undefined && loaded.refCount === 0) await modules.remove(name);
  }
}

async function writeSysctl(name: string, value: string, { host, records }: NodePorts): Promise<void> {
  const { baseline } = await records.read();
  const before = await host.readSysctl(`${VS}/${name}`);
  if (baseline !== undefined && before !== undefined && baseline.managedSysctls[name] === undefined) {
    const managedSysctls = { ...baseline.managedSysctls, [name]: before };
    await records.writeBaseline({ ...baseline, managedSysctls });
  }
  await host.writeSysctl(`${VS}/${name}`, value);
}

/** There is nothing to turn off where there is no patched module. */
async function setSwitch(on: boolean, { host }: NodePorts): Promise<void> {
  const path = `${VS}/bpf_mode`;
  if (!on && (await host.readSysctl(path)) === undefined) return;
  await host.writeSysctl(path, on ? '1' : '0');
}

async function takeServiceId({ records }: NodePorts): Promise<number> {
  const id = (await records.read()).lastServiceId + 1;
  await records.writeLastServiceId(id);
  return id;
}

async function drain(timeoutMs: number, { datapath, clock }: NodePorts): Promise<void> {
  const end = clock.now() + timeoutMs;
  while (clock.now() < end && (await datapath.sessionCount()) > 0) await clock.sleep(DRAIN_PAUSE_MS);
}
