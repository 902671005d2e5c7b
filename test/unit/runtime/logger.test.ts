// SPDX-License-Identifier: Apache-2.0
import { afterEach, describe, expect, it, vi } from 'vitest';
import { LineLogger } from '../../../src/runtime/logger.ts';

describe('LineLogger', () => {
  afterEach(() => {
    vi.restoreAllMocks();
  });

  it('writes lines of its level and above, also those from right before the end', async () => {
    const written = spyOnStandardError();
    const log = new LineLogger({ level: 'info', format: 'json' });
    log.debug('not this one');
    log.info('begun', { node: 'n1' });
    await log.close();
    expect(written().map((line) => JSON.parse(line))).toEqual([
      { level: 'info', message: 'begun', node: 'n1', timestamp: expect.any(String) },
    ]);
  });

  it('takes lines after its end, and does nothing with them', async () => {
    const written = spyOnStandardError();
    const log = new LineLogger({ level: 'info', format: 'json' });
    log.info('begun');
    await log.close();
    log.error('too late');
    await log.close();
    expect(written()).toHaveLength(1);
  });
});

function spyOnStandardError(): () => string[] {
  const spy = vi.spyOn(process.stderr, 'write').mockImplementation((...args: unknown[]) => {
    const done = args.at(-1);
    if (typeof done === 'function') done();
    return true;
  });
  return () =>
    spy.mock.calls
      .map(([text]) => String(text))
      .join('')
      .split('\n')
      .filter(Boolean);
}
