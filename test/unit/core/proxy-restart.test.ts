// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { isRestarted } from '../../../src/core/proxy-restart.ts';
import type { ProcessIdentity } from '../../../src/ports.ts';

const BOOT = 'boot-1';
const A = { pid: 10, startTime: '100' };
const B = { pid: 20, startTime: '200' };

describe('kube-proxy', () => {
  it.each<[string, readonly ProcessIdentity[], readonly ProcessIdentity[], boolean]>([
    ['is the same', [A], [A], false],
    ['is gone', [A], [], false],
    ['is another one', [A], [B], true],
    ['is another one with the same id', [A], [{ ...A, startTime: '300' }], true],
    ['has come where there was none', [], [A], true],
    ['runs beside the one that it replaces', [A], [A, B], false],
    ['is one of two that has gone', [A, B], [A], false],
    ['is one of two that was replaced', [A, B], [A, { pid: 30, startTime: '300' }], true],
  ])('%s', (_, known, now, restarted) => {
    const facts = { bootId: BOOT, kubeProxy: { processes: now } };
    expect(isRestarted({ bootId: BOOT, processes: known }, facts)).toBe(restarted);
  });

  it('was not restarted if it is not known, or the node was booted', () => {
    const facts = { bootId: BOOT, kubeProxy: { processes: [B] } };
    expect(isRestarted(undefined, facts)).toBe(false);
    expect(isRestarted({ bootId: 'boot-0', processes: [A] }, facts)).toBe(false);
  });
});
