// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { exec } from '../../../src/adapters/exec.ts';

describe('exec', () => {
  it('passes arguments as they are and gives both outputs', async () => {
    const script = 'printf "%s|" "$@"; echo warned >&2';
    expect(await exec('sh', ['-c', script, 'sh', 'a b', '$HOME', '*'])).toEqual({
      stdout: 'a b|$HOME|*|',
      stderr: 'warned\n',
    });
  });

  it('passes input', async () => {
    expect((await exec('cat', [], { input: 'line\n' })).stdout).toBe('line\n');
    expect((await exec('true', [], { input: 'x'.repeat(1 << 20) })).stdout).toBe('');
  });

  it('fails with the status and what the command said', async () => {
    const failed = exec('sh', ['-c', 'echo no such thing >&2; exit 3']);
    await expect(failed).rejects.toMatchObject({
      code: 'CommandFailed',
      status: 3,
      stderr: 'no such thing\n',
    });
    await expect(failed).rejects.toThrow('no such thing');
    await expect(exec('sh', ['-c', 'kill -9 $$'])).rejects.toThrow('signal SIGKILL');
  });

  it('says that there is no such command', async () => {
    await expect(exec('no-such-command', [])).rejects.toMatchObject({
      code: 'CommandNotFound',
      errno: 'ENOENT',
    });
  });

  it('stops a command that takes too long, or that is no longer wanted', async () => {
    const slow = exec('sleep', ['20'], { timeoutMs: 50 });
    await expect(slow).rejects.toMatchObject({ code: 'CommandTimedOut', retry: true });
    const controller = new AbortController();
    const aborted = exec('sleep', ['20'], { signal: controller.signal });
    controller.abort();
    await expect(aborted).rejects.toMatchObject({ code: 'CommandAborted' });
    const late = exec('sleep', ['20'], { signal: controller.signal });
    await expect(late).rejects.toMatchObject({ code: 'CommandAborted' });
  });
});
