// SPDX-License-Identifier: Apache-2.0
/** module.activation NextBoot in a cluster: the module comes by a boot, and all else as ever. */
import { beforeEach, describe, expect, it } from 'vitest';
import type { NodeSpec } from '../../../src/api/resources.ts';
import { PATCHED_SRCVERSION, reboot } from '../../fakes/fake-machine.ts';
import {
  agent,
  boot,
  booted,
  freshBootScene,
  GRANT,
  NO_GRANT,
  REVERT,
  restarted,
} from './next-boot-scene.ts';
import { SPEC } from './one-node.ts';
import { api, disk, look, modeOf, node, origin, started } from './scene.ts';

const IN_TREE = 'INTREEIP_VS';
const removals = () => node.machine.calls.changes.filter((call) => call === 'modules.remove ip_vs');

beforeEach(freshBootScene);

describe('a node whose module comes by its next boot', () => {
  it('is armed without a grant, and goes on as it is until somebody reboots it', async () => {
    api.edit(GRANT);
    await look(agent, 2);
    expect(origin()).toBe(IN_TREE);
    expect(removals()).toEqual([]);
    expect((await boot()).armed).toMatchObject({ srcversion: PATCHED_SRCVERSION });
    expect(api.condition('Ready')).toBe('False WaitingForBoot');
    expect(api.condition('DisruptionPending')).toBe('True WaitingForBoot');
    const ready = api.status?.conditions?.find(({ type }) => type === 'Ready');
    expect(ready?.message).toContain('reboot it');
    expect(api.status).toMatchObject({ appliedRevision: 'off' });
    expect(api.status?.step).toBeUndefined();
    const { writes } = api;
    node.machine.calls.reset();
    await look(agent, 3);
    expect(api.writes).toBe(writes);
    expect(node.machine.calls.changes).toEqual([]);
  });

  it('is known to be changed before it is', async () => {
    const told: unknown[] = [];
    const arm = node.machine.boot.arm.bind(node.machine.boot);
    node.machine.boot.arm = async (module) => {
      told.push(api.status?.appliedRevision, api.status?.step?.name);
      return arm(module);
    };
    await look(agent);
    expect(told).toEqual(['native', 'armBoot']);
  });

  it('waits for its grant after the boot, and then begins without an exchange', async () => {
    await look(agent);
    await booted();
    expect(origin()).toBe(PATCHED_SRCVERSION);
    expect(api.condition('DisruptionPending')).toBe('True WaitingForGrant');
    expect((await boot()).unconfirmed).toBeUndefined();
    expect(modeOf()).toBe('0');
    api.edit(GRANT);
    node.machine.calls.reset();
    await look(agent);
    expect(api.condition('Ready')).toBe('True Accelerating');
    expect(api.status).toMatchObject({ appliedRevision: 'r1', module: { switch: 'On' } });
    expect(api.status?.lastDisruption).toBeUndefined();
    expect(node.machine.calls.changes.filter((call) => call.startsWith('modules.'))).toEqual([]);
    expect(removals()).toEqual([]);
  });

  it('is accelerated by each boot, without another grant', async () => {
    await look(agent);
    api.edit(GRANT);
    await booted();
    expect(api.condition('Ready')).toBe('True Accelerating');
    api.edit(NO_GRANT);
    await booted();
    expect(api.condition('Ready')).toBe('True Accelerating');
    expect((await boot()).unconfirmed).toBeUndefined();
    expect((await boot()).armed).toBeDefined();
  });

  it('keeps a boot unconfirmed until packets have passed', async () => {
    await look(agent);
    reboot(node.machine);
    api.edit(GRANT);
    node.machine.calls.reset();
    await look(await started());
    const { changes } = node.machine.calls;
    expect(changes.indexOf('boot.confirm')).toBeGreaterThan(changes.indexOf('selfCheck.run'));
  });

  it.each(['FileMissing', 'DigestMismatch', 'InsertFailed', 'NotRun'] as const)(
    'fails with the reason if the boot fell back (%s), and tries again when asked to',
    async (trouble) => {
      await look(agent);
      await booted(trouble);
      expect(origin()).toBe(IN_TREE);
      expect(api.condition('Ready')).toBe('False RolledBack');
      expect(api.status?.lastFailure).toMatchObject({
        step: 'loadAtBoot',
        reason: 'BootFellBack',
        rollback: 'Succeeded',
        revision: 'r1',
        message: expect.stringContaining(trouble),
      });
      expect(await boot()).toMatchObject({ present: false });
      expect(api.status?.appliedRevision).toBe('native');
      api.edit({ attempt: 2 });
      await look(agent);
      expect(api.condition('Ready')).toBe('False WaitingForBoot');
      await booted();
      expect(origin()).toBe(PATCHED_SRCVERSION);
    },
  );

  it('does not load again what a boot crashed with', async () => {
    await look(agent);
    reboot(node.machine);
    await booted();
    expect(origin()).toBe(IN_TREE);
    expect(api.status?.lastFailure?.message).toContain('Unconfirmed');
  });

  it('is armed anew by a boot into another kernel', async () => {
    await look(agent);
    const { modules, patchedModule } = node.machine;
    const file = modules.files.get(patchedModule);
    if (file !== undefined) modules.files.set(patchedModule, { ...file, vermagic: '6.1.0-99-amd64 SMP' });
    modules.kernelRelease = '6.1.0-99-amd64';
    await booted();
    expect(api.status?.lastFailure).toBeUndefined();
    expect(api.condition('Ready')).toBe('False WaitingForBoot');
    expect((await boot()).armed).toMatchObject({ kernelRelease: '6.1.0-99-amd64' });
  });

  it('is not touched if its host cannot do that, and says what is missing', async () => {
    node.machine.boot.missing = ['there is no program modprobe'];
    await look(agent, 2);
    expect(await boot()).toMatchObject({ present: false });
    expect(api.condition('PreflightPassed')).toBe('False NextBootNotSupported');
    expect(api.condition('Ready')).toBe('False NotAccelerating');
    expect(api.status?.preflight?.find(({ check }) => check === 'BootFiles')?.message).toContain(
      'there is no program modprobe',
    );
  });

  it('says why it could not be armed', async () => {
    node.machine.calls.fail('boot.arm', new Error('EROFS'));
    await look(agent, 2);
    expect(api.status?.lastFailure).toMatchObject({ step: 'armBoot', rollback: 'Succeeded' });
    expect(api.condition('Ready')).toBe('False RolledBack');
    expect(await boot()).toMatchObject({ present: false });
  });
});

describe('a node that runs accelerated and whose next module comes by a boot', () => {
  const OTHER = '/other/ip_vs.ko';
  const next: Partial<NodeSpec> = {
    revision: 'r2',
    attempt: 2,
    module: { activation: 'NextBoot', path: OTHER },
  };

  beforeEach(async () => {
    await look(agent);
    api.edit(GRANT);
    await booted();
    const { files } = node.machine.modules;
    const file = files.get(node.machine.patchedModule);
    if (file !== undefined) files.set(OTHER, { ...file, srcversion: 'OTHER' });
    node.machine.calls.reset();
  });

  it('goes on with the one that it has, is armed with the other, and has that after the boot', async () => {
    api.edit(next);
    await look(agent, 3);
    expect(origin()).toBe(PATCHED_SRCVERSION);
    expect(modeOf()).toBe('1');
    expect((await boot()).armed).toMatchObject({ srcversion: 'OTHER' });
    expect(api.status).toMatchObject({ appliedRevision: 'r1' });
    expect(api.condition('Ready')).toBe('False WaitingForBoot');
    expect(node.machine.calls.changes.filter((call) => call === 'boot.arm /other/ip_vs.ko')).toHaveLength(1);
    await booted();
    expect(origin()).toBe('OTHER');
    expect(modeOf()).toBe('0');
    expect(api.condition('DisruptionPending')).toBe('True WaitingForGrant');
    api.edit({ disruptionGrant: { revision: 'r2', expiresAt: '2026-01-02T04:00:00Z' } });
    await look(agent);
    expect(api.status).toMatchObject({ appliedRevision: 'r2' });
    expect(api.condition('Ready')).toBe('True Accelerating');
    expect(removals()).toEqual([]);
  });

  it('gets maps of another size by a boot, too', async () => {
    const datapath = { ...SPEC.datapath, sessionMapMaxEntries: 8192 };
    const disruptionGrant = { revision: 'r2', expiresAt: '2026-01-02T04:00:00Z' };
    api.edit({ revision: 'r2', attempt: 2, datapath, disruptionGrant });
    await look(agent, 2);
    expect(api.condition('Ready')).toBe('False WaitingForBoot');
    expect(api.status).toMatchObject({ appliedRevision: 'r1', sessionMap: { maxEntries: 4096 } });
    await booted();
    expect(api.status).toMatchObject({ appliedRevision: 'r2', sessionMap: { maxEntries: 8192 } });
  });

  it('goes on with it where the file was replaced under its name, and says that a boot is waited for', async () => {
    const { files } = node.machine.modules;
    const file = files.get(node.machine.patchedModule);
    if (file !== undefined) files.set(node.machine.patchedModule, { ...file, srcversion: 'REPLACED' });
    await look(agent, 2);
    expect(origin()).toBe(PATCHED_SRCVERSION);
    expect(api.condition('Ready')).toBe('True Accelerating');
    expect(api.condition('DisruptionPending')).toBe('True WaitingForBoot');
    expect((await boot()).armed).toMatchObject({ srcversion: 'REPLACED' });
    expect(removals()).toEqual([]);
  });

  it('is native until the boot if its maps are no longer those of the module', async () => {
    node.machine.datapath.reboot();
    await look(agent, 2);
    expect(modeOf()).toBe('0');
    expect(api.condition('Ready')).toBe('False WaitingForBoot');
    expect(removals()).toEqual([]);
  });

  it('is taken off the files when a revision fails', async () => {
    api.edit({ ...next, disruptionGrant: { revision: 'r2', expiresAt: '2026-01-02T04:00:00Z' } });
    await look(agent);
    reboot(node.machine);
    node.machine.calls.fail('datapath.load', new Error('no'), 9);
    await restarted();
    await look(agent, 3);
    expect(api.condition('Ready')).toBe('False RolledBack');
    expect((await boot()).armed?.srcversion).not.toBe('OTHER');
  });

  it('loses the files when its module comes live, and keeps what it runs', async () => {
    api.edit({ module: { activation: 'Live' } });
    await look(agent);
    expect(await boot()).toMatchObject({ present: false });
    expect(api.condition('Ready')).toBe('True Accelerating');
    expect(removals()).toEqual([]);
  });

  it('is put back live, with nothing left for the next boot', async () => {
    api.edit(REVERT);
    await look(agent, 2);
    expect(origin()).toBe(IN_TREE);
    expect(await boot()).toMatchObject({ present: false });
    expect(api.status?.appliedRevision).toBe('native');
    expect(disk.memory).toEqual({});
    expect(node.records.isEmpty).toBe(true);
  });

  it('stays armed while it is disabled', async () => {
    api.edit({ mode: 'Disabled' });
    await look(agent);
    expect(modeOf()).toBe('0');
    await booted();
    expect(api.condition('Ready')).toBe('True DisabledAsRequested');
    expect(await boot()).toMatchObject({ present: true });
    expect((await boot()).unconfirmed).toBeUndefined();
  });
});

describe('an armed node', () => {
  beforeEach(() => look(agent));

  it('is put back without a grant', async () => {
    api.edit({ ...REVERT, ...NO_GRANT });
    await look(agent, 2);
    expect(await boot()).toMatchObject({ present: false });
    expect(api.status?.appliedRevision).toBe('native');
    expect(disk.memory).toEqual({});
  });

  it('is armed again when somebody has damaged the files', async () => {
    node.machine.boot.damaged = true;
    await look(agent);
    expect((await boot()).armed).toBeDefined();
  });

  it('gets its module at once when it may come live', async () => {
    api.edit({ module: { activation: 'Live' }, ...GRANT });
    await look(agent);
    expect(origin()).toBe(PATCHED_SRCVERSION);
    expect(await boot()).toMatchObject({ present: false });
    expect(api.condition('Ready')).toBe('True Accelerating');
  });

  it('keeps its files with action Hold, and has its boots confirmed', async () => {
    api.edit({ action: 'Hold' });
    await booted();
    expect(origin()).toBe(PATCHED_SRCVERSION);
    expect((await boot()).armed).toBeDefined();
    expect((await boot()).unconfirmed).toBeUndefined();
    expect(modeOf()).toBe('0');
  });

  it('loses its files while it waits to get its module live', async () => {
    api.edit({ module: { activation: 'Live' } });
    await look(agent);
    expect(await boot()).toMatchObject({ present: false });
    expect(api.condition('DisruptionPending')).toBe('True WaitingForGrant');
    expect(api.status?.appliedRevision).toBe('native');
  });

  it('that has booted and waits to be put back is not armed again', async () => {
    await booted();
    api.edit({ ...REVERT, ...NO_GRANT });
    await look(agent, 2);
    expect(await boot()).toMatchObject({ present: false });
    expect(api.condition('DisruptionPending')).toBe('True WaitingForGrant');
    expect(origin()).toBe(PATCHED_SRCVERSION);
  });

  it.each([
    ['with a permission', GRANT],
    ['without', NO_GRANT],
  ])('has its boot confirmed also if a check fails after it, %s', async (_, grant) => {
    node.machine.host.control('net/ipv4/ip_forward', '0');
    api.edit(grant);
    await booted();
    expect(api.condition('PreflightPassed')).toBe('False ForwardingOff');
    expect((await boot()).unconfirmed).toBeUndefined();
    expect(modeOf()).toBe('0');
  });
});
