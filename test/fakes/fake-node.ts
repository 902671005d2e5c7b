// SPDX-License-Identifier: Apache-2.0

import type { KillPoint } from '../../src/agent/kill-point.ts';
import type { Log, LogFields } from '../../src/agent/log.ts';
import type { Node } from '../../src/agent/reconcile.ts';
import type { SavedConnections } from '../../src/connection-ports.ts';
import { HostError } from '../../src/core/errors.ts';
import {
  type Baseline,
  type Disruption,
  EMPTY_RECORD,
  type FrozenProcesses,
  type NodeRecord,
  type SavedTable,
} from '../../src/core/facts.ts';
import { isTestServer } from '../../src/core/self-check-network.ts';
import type { Clock, JournalEntry, NodeRecords, SelfCheck } from '../../src/ports.ts';
import type { Calls } from './calls.ts';
import { type FakeMachine, fakeMachine } from './fake-machine.ts';
import { FakeOutageProbe } from './fake-outage-probe.ts';
import { FakeServiceProbe } from './fake-service-probe.ts';

/** A state directory that outlives the program. */
export class FakeRecords implements NodeRecords {
  baseline: Baseline | undefined;
  saved: SavedTable | undefined;
  connections: SavedConnections | undefined;
  journal: JournalEntry | undefined;
  lastServiceId = 0;
  frozen: FrozenProcesses | undefined;
  disruption: Disruption | undefined;
  locked = false;
  readonly #calls: Calls;

  constructor(calls: Calls) {
    this.#calls = calls;
  }

  get isEmpty(): boolean {
    const files = [this.baseline, this.saved, this.connections, this.journal, this.frozen, this.disruption];
    return files.every((file) => file === undefined) && this.lastServiceId === 0;
  }

  async read(): Promise<NodeRecord> {
    return {
      ...EMPTY_RECORD,
      ...(this.baseline === undefined ? {} : { baseline: this.baseline }),
      ...(this.saved === undefined ? {} : { saved: this.saved }),
      ...(this.journal === undefined
        ? {}
        : { unfinished: { verb: this.journal.verb, step: this.journal.step } }),
      lastServiceId: this.lastServiceId,
      ...(this.frozen === undefined ? {} : { frozen: this.frozen }),
      ...(this.disruption === undefined ? {} : { lastDisruption: this.disruption }),
    };
  }

  async writeBaseline(baseline: Baseline): Promise<void> {
    this.#calls.change('records.writeBaseline', '', () => (this.baseline = baseline));
  }

  async writeSavedTable(table: SavedTable | undefined): Promise<void> {
    this.#calls.change('records.writeSavedTable', '', () => (this.saved = table));
  }

  async readConnections(): Promise<SavedConnections | undefined> {
    return this.connections;
  }

  async writeConnections(connections: SavedConnections | undefined): Promise<void> {
    this.#calls.change('records.writeConnections', '', () => (this.connections = connections));
  }

  async writeJournal(entry: JournalEntry | undefined): Promise<void> {
    this.#calls.change('records.writeJournal', entry?.description ?? '', () => (this.journal = entry));
  }

  async writeLastServiceId(id: number): Promise<void> {
    this.#calls.change('records.writeLastServiceId', String(id), () => (this.lastServiceId = id));
  }

  async writeFrozen(frozen: FrozenProcesses | undefined): Promise<void> {
    this.#calls.change('records.writeFrozen', '', () => (this.frozen = frozen));
  }

  async writeDisruption(disruption: Disruption): Promise<void> {
    this.#calls.change('records.writeDisruption', '', () => (this.disruption = disruption));
  }

  async clear(): Promise<void> {
    this.#calls.change('records.clear', '', () => {
      this.baseline = undefined;
      this.saved = undefined;
      this.connections = undefined;
      this.journal = undefined;
      this.lastServiceId = 0;
      this.frozen = undefined;
      this.disruption = undefined;
    });
  }

  async lock(): Promise<() => Promise<void>> {
    if (this.locked) throw new HostError('process 1 is changing this node', { code: 'Busy' });
    this.locked = true;
    return async () => {
      this.locked = false;
    };
  }
}

/** Succeeds if the data path is complete, as a packet would. */
export class FakeSelfCheck implements SelfCheck {
  runs = 0;
  leftovers = false;
  readonly #calls: Calls;
  readonly #machine: FakeMachine;

  constructor(calls: Calls, machine: FakeMachine) {
    this.#calls = calls;
    this.#machine = machine;
  }

  async run(): Promise<void> {
    this.leftovers = true;
    this.#calls.change('selfCheck.run', '', () => {
      this.runs += 1;
      const { host } = this.#machine;
      if (host.sysctls.get('net/ipv4/vs/bpf_mode') !== '1' || !host.mapsGiven) {
        throw new HostError('the request did not arrive', { code: 'SystemError' });
      }
    });
    this.leftovers = false;
  }

  async runNative(): Promise<void> {
    this.#calls.change('selfCheck.runNative', '', () => {
      if (!this.#machine.modules.loaded.includes('ip_vs')) {
        throw new HostError('the request did not arrive', { code: 'SystemError' });
      }
    });
  }

  async remove(): Promise<void> {
    this.#calls.change('selfCheck.remove', '', () => {
      this.leftovers = false;
      for (const server of this.#machine.ipvs.table.filter(isTestServer)) this.#machine.ipvs.unseed(server);
    });
  }
}

export class FakeClock implements Clock {
  #now = 0;

  now(): number {
    return this.#now;
  }

  date(): string {
    return new Date(this.#now).toISOString();
  }

  async sleep(milliseconds: number): Promise<void> {
    this.#now += milliseconds;
  }
}

/** Keeps what is logged. */
export class FakeLog implements Log {
  readonly lines: { readonly level: string; readonly message: string; readonly fields: LogFields }[] = [];

  error(message: string, fields: LogFields = {}): void {
    this.lines.push({ level: 'error', message, fields });
  }

  warn(message: string, fields: LogFields = {}): void {
    this.lines.push({ level: 'warn', message, fields });
  }

  info(message: string, fields: LogFields = {}): void {
    this.lines.push({ level: 'info', message, fields });
  }

  debug(message: string, fields: LogFields = {}): void {
    this.lines.push({ level: 'debug', message, fields });
  }
}

export interface FakeNode extends Node {
  readonly machine: FakeMachine;
  readonly records: FakeRecords;
  readonly check: FakeSelfCheck;
  readonly serviceProbe: FakeServiceProbe;
  readonly outageProbe: FakeOutageProbe;
  readonly log: FakeLog;
}

/** A whole machine with an agent on it. */
export function fakeNode(killPoint: KillPoint = () => {}): FakeNode {
  const machine = fakeMachine();
  const { calls, modules, ipvs, connections, links, host, datapath, kubeProxy, boot } = machine;
  const records = new FakeRecords(calls);
  const check = new FakeSelfCheck(calls, machine);
  const serviceProbe = new FakeServiceProbe(calls, machine);
  const clock = new FakeClock();
  const outageProbe = new FakeOutageProbe(calls, ipvs, clock);
  return {
    machine,
    records,
    check,
    serviceProbe,
    outageProbe,
    log: new FakeLog(),
    killPoint,
    ports: {
      modules,
      ipvs,
      connections,
      links,
      host,
      datapath,
      kubeProxy,
      boot,
      records,
      selfCheck: check,
      serviceProbe,
      outageProbe,
      clock,
    },
    defaultModuleFile: () => machine.patchedModule,
  };
}
