// SPDX-License-Identifier: Apache-2.0
/** An agent is killed while it prepares a node for its next boot, after that, and while it puts the node back. */
import { describe, expect, it } from 'vitest';
import { reboot } from '../../fakes/fake-machine.ts';
import { agent, boot, booted, freshBootScene, GRANT, REVERT } from './next-boot-scene.ts';
import { api, look, node, origin, started } from './scene.ts';

describe('after a kill', () => {
  /** From nothing over the boot to accelerated, and back. */
  const acts = {
    arming: { before: () => {}, act: () => {} },
    'the first look after the boot': {
      before: async () => {
        await look(agent);
        reboot(node.machine);
        api.edit(GRANT);
      },
      act: () => {},
    },
    reverting: {
      before: async () => {
        await look(agent);
        api.edit(GRANT);
        await booted();
      },
      act: () => api.edit(REVERT),
    },
  };

  async function scene({ before }: (typeof acts)['arming' | 'reverting']): Promise<void> {
    await freshBootScene();
    await before();
    node.machine.calls.reset();
  }

  it.each(Object.entries(acts))(
    'at any change of %s an agent goes on',
    { timeout: 120_000 },
    async (_, case_) => {
      await scene(case_);
      case_.act();
      await look(await started(), 3);
      const total = node.machine.calls.changes.length;
      const wanted = [api.condition('Ready'), api.status?.appliedRevision, await boot(), origin()];
      expect(total).toBeGreaterThan(1);
      for (let index = 0; index < total; index += 1) {
        for (const moment of ['before', 'after'] as const) {
          await scene(case_);
          case_.act();
          node.machine.calls.crashAt(index, moment);
          await look(await started(), 3).catch(() => {});
          node.machine.calls.reset();
          await look(await started(), 2);
          const where = `killed ${moment} change ${index}`;
          const found = [api.condition('Ready'), api.status?.appliedRevision, await boot(), origin()];
          expect(comparable(found), where).toEqual(comparable(wanted));
          expect(node.records.journal, where).toBeUndefined();
        }
      }
    },
  );

  /** Boots have other names each time. */
  function comparable(found: readonly unknown[]): unknown {
    return JSON.parse(JSON.stringify(found).replaceAll(/boot-\d+/g, 'boot'));
  }
});
