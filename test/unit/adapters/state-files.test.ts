// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { StateFiles } from '../../../src/adapters/state-files.ts';

const BASELINE = { bootId: 'b', modules: ['ip_vs'], managedSysctls: {} };
const JOURNAL = { verb: 'up', bootId: 'b', step: 'flush', description: 'flush', undo: [] } as const;

let root: string;
let directory: string;
let files: StateFiles;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'state-'));
  directory = join(root, 'state');
  files = new StateFiles(directory);
});
afterEach(() => rmSync(root, { recursive: true }));

describe('the state directory', () => {
  it('is empty at first, and is not made by reading', async () => {
    expect(await files.read()).toEqual({ lastServiceId: 0 });
    expect(existsSync(directory)).toBe(false);
  });

  it('remembers what was written, for another process too', async () => {
    const saved = { bootId: 'b', flushed: true, virtualServers: [], sysctls: {}, helpers: [] };
    await files.writeBaseline(BASELINE);
    await files.writeSavedTable(saved);
    await files.writeJournal(JOURNAL);
    await files.writeLastServiceId(7);
    const unfinished = { verb: 'up', step: 'flush' };
    expect(await new StateFiles(directory).read()).toEqual({
      baseline: BASELINE,
      saved,
      unfinished,
      lastServiceId: 7,
    });
  });

  it('goes when everything in it is gone', async () => {
    await files.writeBaseline(BASELINE);
    await files.clear();
    expect(existsSync(directory)).toBe(false);
    await files.clear();
  });

  it('keeps files of others', async () => {
    await files.writeBaseline(BASELINE);
    writeFileSync(join(directory, 'notes'), '');
    await files.clear();
    expect(readdirSync(directory)).toEqual(['notes']);
  });

  it('does not mind a write that was cut short', async () => {
    await files.writeBaseline(BASELINE);
    writeFileSync(join(directory, 'baseline.json.new'), '{"boot');
    expect((await files.read()).baseline).toEqual(BASELINE);
    await files.clear();
    expect(existsSync(directory)).toBe(false);
  });

  it('says which file is damaged', async () => {
    mkdirSync(directory);
    writeFileSync(join(directory, 'baseline.json'), '{"boot');
    await expect(files.read()).rejects.toThrow(`${directory}/baseline.json is damaged`);
  });
});

describe('the lock', () => {
  it('keeps others out until it is released, and leaves nothing', async () => {
    const unlock = await files.lock();
    await expect(new StateFiles(directory).lock()).rejects.toMatchObject({ code: 'Busy' });
    await unlock();
    expect(existsSync(directory)).toBe(false);
    await (await files.lock())();
  });

  it('of the agent of a cluster is explained otherwise than that of another process', async () => {
    const adviceWhileHeldBy = async (words: readonly string[]): Promise<unknown> => {
      const holder = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)', '--', ...words]);
      try {
        const stat = readFileSync(`/proc/${holder.pid}/stat`, 'utf8');
        const startTime = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
        await expect.poll(() => readFileSync(`/proc/${holder.pid}/cmdline`, 'utf8')).toContain(words[0]);
        mkdirSync(directory, { recursive: true });
        writeFileSync(join(directory, 'lock'), JSON.stringify({ pid: holder.pid, startTime }));
        return await files.lock().catch((error: { advice?: string }) => error.advice);
      } finally {
        holder.kill();
      }
    };
    const program = '/opt/ipvs-bpf/dist/ipvs-bpf.mjs';
    expect(await adviceWhileHeldBy([program, 'agent'])).toContain('docs/cli.md#on-a-node-of-a-cluster');
    expect(await adviceWhileHeldBy([program, 'node', 'run'])).toContain('if it is "node run"');
  });

  it('of a process that died is taken over', async () => {
    mkdirSync(directory);
    writeFileSync(join(directory, 'lock'), JSON.stringify({ pid: process.pid, startTime: 'another' }));
    writeFileSync(join(directory, 'lock.4711'), '');
    const unlock = await files.lock();
    await files.clear();
    expect(readdirSync(directory)).toEqual(['lock']);
    await unlock();
  });
});
