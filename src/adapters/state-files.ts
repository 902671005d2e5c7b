// SPDX-License-Identifier: Apache-2.0
/** The state directory: a few JSON files, each written whole. */

import { link, mkdir, readdir, readFile, rm, rmdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { SavedConnections } from '../connection-ports.ts';
import { errnoOf, HostError, isNotFound } from '../core/errors.ts';
import type { Baseline, Disruption, FrozenProcesses, NodeRecord, SavedTable } from '../core/facts.ts';
import type { JournalEntry, NodeMemories, NodeMemory, NodeRecords } from '../ports.ts';
import { writeDurably, writeWhole } from './durable-files.ts';

const FILES = {
  baseline: 'baseline.json',
  saved: 'saved-table.json',
  connections: 'saved-connections.json',
  journal: 'journal.json',
  ids: 'service-ids.json',
  frozen: 'frozen-processes.json',
  disruption: 'last-disruption.json',
  lock: 'lock',
} as const;

interface Lock {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat, clock ticks since boot: tells a process from a later one with the same id. */
  readonly startTime: string;
}

/** Not one of the records: it outlives `down`, after which the node is still one of a cluster. */
const MEMORY = 'kubernetes.json';

/** /var/lib/ipvs-bpf by default. */
export class StateFiles implements NodeRecords {
  /** What a node of a cluster remembers. */
  readonly memories: NodeMemories = {
    read: async () => (await this.#read<NodeMemory>(MEMORY)) ?? {},
    write: (memory) => this.#write(MEMORY, Object.keys(memory).length === 0 ? undefined : memory),
  };
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async read(): Promise<NodeRecord> {
    const baseline = await this.#read<Baseline>(FILES.baseline);
    const saved = await this.#read<SavedTable>(FILES.saved);
    const journal = await this.#read<JournalEntry>(FILES.journal);
    const frozen = await this.#read<FrozenProcesses>(FILES.frozen);
    const lastDisruption = await this.#read<Disruption>(FILES.disruption);
    const ids = await this.#read<{ readonly lastServiceId: number }>(FILES.ids);
    return {
      ...(baseline === undefined ? {} : { baseline }),
      ...(saved === undefined ? {} : { saved }),
      ...(journal === undefined ? {} : { unfinished: { verb: journal.verb, step: journal.step } }),
      lastServiceId: ids?.lastServiceId ?? 0,
      ...(frozen === undefined ? {} : { frozen }),
      ...(lastDisruption === undefined ? {} : { lastDisruption }),
    };
  }

  async writeBaseline(baseline: Baseline): Promise<void> {
    await this.#write(FILES.baseline, baseline);
  }

  async writeSavedTable(table: SavedTable | undefined): Promise<void> {
    await this.#write(FILES.saved, table);
  }

  async readConnections(): Promise<SavedConnections | undefined> {
    return this.#read<SavedConnections>(FILES.connections);
  }

  async writeConnections(connections: SavedConnections | undefined): Promise<void> {
    await this.#write(FILES.connections, connections);
  }

  async writeJournal(entry: JournalEntry | undefined): Promise<void> {
    await this.#write(FILES.journal, entry);
  }

  async writeLastServiceId(id: number): Promise<void> {
    await this.#write(FILES.ids, { lastServiceId: id });
  }

  async writeFrozen(frozen: FrozenProcesses | undefined): Promise<void> {
    await this.#write(FILES.frozen, frozen);
  }

  async writeDisruption(disruption: Disruption): Promise<void> {
    await this.#write(FILES.disruption, disruption);
  }

  async clear(): Promise<void> {
    const { lock, ...records } = FILES;
    for (const name of await this.#names()) {
      const record = Object.values(records).some((file) => name === file || name === `${file}.new`);
      // A process that was killed while it took the lock leaves lock.PID.
      if (record || name.startsWith(`${lock}.`)) {
        await rm(join(this.#directory, name), { force: true });
      }
    }
    // The lock goes when it is released, and the directory with it.
    if (!(await this.#names()).includes(lock)) await this.#removeDirectory();
  }

  async lock(): Promise<() => Promise<void>> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const path = join(this.#directory, FILES.lock);
    const mine: Lock = { pid: process.pid, startTime: (await startTime(process.pid)) ?? '' };
    for (let attempt = 0; attempt < 3; attempt += 1) {
      if (await createWhole(path, JSON.stringify(mine))) return () => this.#release(path);
      const holder = await this.#read<Lock>(FILES.lock);
      if (holder !== undefined && (await startTime(holder.pid)) === holder.startTime) {
        throw new HostError(`process ${holder.pid} is changing this node`, {
          code: 'Busy',
          retry: true,
          advice: (await isAgent(holder.pid))
            ? 'It is the agent of a Kubernetes node, which would do again what is undone here: stop it first. ' +
              'docs/cli.md#on-a-node-of-a-cluster says how.'
            : `Wait for process ${holder.pid}, or end it ("kill ${holder.pid}") if it is "node run".`,
        });
      }
      await rm(path, { force: true });
    }
    throw new HostError(`${path} is taken again and again`, { code: 'Busy', retry: true });
  }

  async #release(path: string): Promise<void> {
    await rm(path, { force: true });
    await this.#removeDirectory();
  }

  /** If nothing is in it, and nobody has mounted it, as pods have. */
  async #removeDirectory(): Promise<void> {
    try {
      await rmdir(this.#directory);
    } catch (error) {
      if (!isNotFound(error) && !['ENOTEMPTY', 'EBUSY'].includes(errnoOf(error) ?? '')) throw error;
    }
  }

  async #names(): Promise<readonly string[]> {
    try {
      return await readdir(this.#directory);
    } catch (error) {
      if (isNotFound(error)) return [];
      throw error;
    }
  }

  async #read<T>(name: string): Promise<T | undefined> {
    const path = join(this.#directory, name);
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
    try {
      return JSON.parse(text) as T;
    } catch (error) {
      throw new HostError(`${path} is damaged`, {
        code: 'MalformedReply',
        advice: 'Nothing but this program may write there; move the file away if you know what it held.',
        cause: error,
      });
    }
  }

  async #write(name: string, value: unknown): Promise<void> {
    const path = join(this.#directory, name);
    if (value === undefined) {
      await rm(path, { force: true });
      return;
    }
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await writeWhole(path, `${JSON.stringify(value)}\n`);
  }
}

/** True if the file is new and ours; false if somebody has it. It appears whole: its text tells who has it. */
async function createWhole(path: string, text: string): Promise<boolean> {
  const temporary = `${path}.${process.pid}`;
  await writeDurably(temporary, text);
  try {
    await link(temporary, path);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false;
    throw error;
  } finally {
    await rm(temporary, { force: true });
  }
}

/** True if the process is `ipvs-bpf agent`. */
async function isAgent(pid: number): Promise<boolean> {
  try {
    const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0');
    const program = words.findIndex((word) => /(^|\/)(ipvs-bpf\.mjs|cli\.ts)$/.test(word));
    return program >= 0 && words[program + 1] === 'agent';
  } catch (error) {
    if (isNotFound(error)) return false;
    throw error;
  }
}

/** Undefined if there is no such process. */
async function startTime(pid: number): Promise<string | undefined> {
  try {
    await stat(`/proc/${pid}`);
    const text = await readFile(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19];
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}
