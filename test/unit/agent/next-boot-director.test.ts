// SPDX-License-Identifier: Apache-2.0
/** module.activation NextBoot on a director: `node up` arms it, a boot loads the module, `node up` goes on. */
import { describe, expect, it } from 'vitest';
import { checks, down, status, stepsUp, up } from '../../../src/agent/reconcile.ts';
import { outcomeText } from '../../../src/agent/report.ts';
import type { NodeConfig } from '../../../src/api/generated/node-config-types.ts';
import { PATCHED_SRCVERSION, reboot } from '../../fakes/fake-machine.ts';
import type { FakeNode } from '../../fakes/fake-node.ts';
import { CONFIG, director, listing, TABLE } from './director.ts';

const AT_BOOT: NodeConfig = { ...CONFIG, module: { activation: 'NextBoot' } };
const origin = ({ machine }: FakeNode) => machine.modules.loadedFile('ip_vs')?.srcversion;

describe('up on a director whose module comes by its next boot', () => {
  it('arms it, says that a boot is to come, and exchanges nothing', async () => {
    const node = director(...TABLE);
    const outcome = await up(AT_BOOT, node);
    expect(outcome).toMatchObject({ connectionsLost: 0, waitsForBoot: true });
    expect(outcomeText('up', outcome)).toContain('reboot this machine');
    expect(origin(node)).toBe('INTREEIP_VS');
    expect(node.machine.ipvs.table).toHaveLength(TABLE.length);
    expect(await stepsUp(AT_BOOT, node)).toEqual([]);
    expect((await status(AT_BOOT, node)).differences).toContain(
      'to be done: a reboot, which loads the patched module',
    );
    expect(await up(AT_BOOT, node)).toMatchObject({ steps: [], waitsForBoot: true });
  });

  it('goes on after the boot, and says that nothing is to come', async () => {
    const node = director(...TABLE);
    await up(AT_BOOT, node);
    reboot(node.machine);
    const outcome = await up(AT_BOOT, node);
    expect(outcome).toMatchObject({ connectionsLost: 0, waitsForBoot: false });
    expect(outcome.steps.map(({ kind }) => kind)).not.toContain('removeModule');
    expect(origin(node)).toBe(PATCHED_SRCVERSION);
    expect((await status(AT_BOOT, node)).differences).toEqual([]);
    expect((await node.machine.boot.state()).unconfirmed).toBeUndefined();
  });

  it('does not try again what a boot has refused, until it was put back', async () => {
    const node = director(...TABLE);
    await up(AT_BOOT, node);
    reboot(node.machine, 'DigestMismatch');
    await expect(up(AT_BOOT, node)).rejects.toThrow(/LastBoot: .*DigestMismatch/);
    const failed = (await checks(AT_BOOT, node)).filter(({ result }) => result === 'Fail');
    expect(failed.map(({ check }) => check)).toEqual(['LastBoot']);
    await down(node, 0);
    expect(await up(AT_BOOT, node)).toMatchObject({ waitsForBoot: true });
  });

  it('does not look at what only an exchange needs', async () => {
    const node = director(...TABLE);
    node.machine.ipvs.runningDaemons.push({ state: 'master', interface: 'eth0', syncId: 1 });
    await expect(up(CONFIG, node)).rejects.toThrow('SyncDaemon');
    expect(await up(AT_BOOT, node)).toMatchObject({ waitsForBoot: true });
  });

  it('finishes an exchange that was begun, as there is no table to go on with', async () => {
    const whole = director(...TABLE);
    whole.machine.calls.reset();
    await up(CONFIG, whole);
    const node = director(...TABLE);
    node.machine.calls.reset();
    node.machine.calls.crashAt(whole.machine.calls.changes.indexOf('modules.remove ip_vs'), 'after');
    await up(CONFIG, node).catch(() => {});
    node.machine.calls.reset();
    expect(node.records.saved?.flushed).toBe(true);
    await up(AT_BOOT, node);
    expect(origin(node)).toBe(PATCHED_SRCVERSION);
    expect(node.machine.ipvs.table).toHaveLength(TABLE.length);
    expect((await status(AT_BOOT, node)).differences).toEqual([]);
  });
});

describe('down', () => {
  it('takes the files away, and nothing else of a director that has not booted', async () => {
    const node = director(...TABLE);
    const before = await listing(node);
    await up(AT_BOOT, node);
    node.machine.calls.reset();
    expect((await down(node, 0)).connectionsLost).toBe(0);
    expect(await listing(node)).toEqual(before);
  });

  it('after the boot leaves what the boot would have left without this program', async () => {
    const node = director();
    await up(AT_BOOT, node);
    const { machine } = node;
    reboot(machine);
    expect(origin(node)).toBe(PATCHED_SRCVERSION);
    await up(AT_BOOT, node);
    await down(node, 0);
    expect(machine.modules.loaded).not.toContain('ip_vs');
    expect(await machine.boot.state()).toEqual({ missing: [], present: false });
    expect(node.records.isEmpty).toBe(true);
  });

  it("first of all, so that modprobe finds the kernel's own module", async () => {
    const node = director(...TABLE);
    await up(AT_BOOT, node);
    reboot(node.machine);
    await up(AT_BOOT, node);
    node.machine.calls.reset();
    await down(node, 0);
    const { changes } = node.machine.calls;
    expect(changes.indexOf('boot.disarm')).toBeLessThan(changes.indexOf('modules.load ip_vs'));
    expect(origin(node)).toBe('INTREEIP_VS');
  });
});

describe('after a crash', () => {
  /** Armed, or armed and booted; then `up`. */
  const scenes = {
    'before the boot': async () => director(...TABLE),
    'after the boot': async () => {
      const node = director(...TABLE);
      await up(AT_BOOT, node);
      reboot(node.machine);
      return node;
    },
  };

  it.each(Object.entries(scenes))(
    '%s up goes on from any change on, and down leaves nothing',
    async (_, make) => {
      const first = await make();
      first.machine.calls.reset();
      await up(AT_BOOT, first);
      const total = first.machine.calls.changes.length;
      expect(total).toBeGreaterThan(3);
      for (let index = 0; index < total; index += 1) {
        for (const moment of ['before', 'after'] as const) {
          const where = `killed ${moment} change ${index}`;
          const node = await make();
          const { table } = node.machine.ipvs;
          node.machine.calls.reset();
          node.machine.calls.crashAt(index, moment);
          await up(AT_BOOT, node).catch(() => {});
          node.machine.calls.reset();
          await up(AT_BOOT, node);
          expect(await stepsUp(AT_BOOT, node), where).toEqual([]);
          expect(node.machine.ipvs.table, where).toEqual(table);
          expect((await node.machine.boot.state()).armed, where).toBeDefined();
          await down(node, 0);
          expect(origin(node), where).toBe('INTREEIP_VS');
          expect(node.machine.ipvs.table, where).toEqual(table);
          expect((await node.machine.boot.state()).present, where).toBe(false);
          expect(node.records.isEmpty, where).toBe(true);
        }
      }
    },
  );
});
