// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { kernelOfUname } from '../../../scripts/kernels.ts';
import { kernelOption } from '../../../scripts/options.ts';

describe('the kernel that runs', () => {
  it.each([
    [
      '6.1.0-56-amd64',
      '#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)',
      { series: '6.1', release: '6.1.0-56-amd64', version: '6.1.192-2' },
    ],
    [
      '6.12.117+deb12-cloud-amd64',
      '#1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1~deb12u1 (2026-11-14)',
      { series: '6.12', release: '6.12.117+deb12-cloud-amd64', version: '6.12.117-1~deb12u1' },
    ],
  ])('%s is known with the version of its package', (release, version, expected) => {
    expect(kernelOfUname(release, version)).toEqual(expected);
  });

  it.each([
    ['6.10.3-amd64', '#1 SMP PREEMPT_DYNAMIC Debian 6.10.3-1 (2026-08-04)'],
    ['6.1.0-generic', '#1-Ubuntu SMP PREEMPT_DYNAMIC'],
  ])('%s is refused with what is accepted', (release, version) => {
    expect(() => kernelOfUname(release, version)).toThrow(
      `the running kernel ${release} (${version}) is not one of Debian's 6.1 or 6.12`,
    );
  });

  it('may be chosen, and a wrong word names all choices', () => {
    expect(kernelOption('running')).toBe('running');
    expect(kernelOption('6.12')).toBe('6.12');
    expect(() => kernelOption('6.10')).toThrow('Use 6.1, 6.12, running.');
  });
});
