// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { describeSuite } from '../../vm/suites.ts';

describe('a suite', () => {
  it('runs on every kernel unless it says which', () => {
    expect(describeSuite('x', '/x.sh', '#!/bin/sh\n').map((suite) => suite.kernel)).toEqual(['6.1', '6.12']);
    const one = describeSuite('x', '/x.sh', '#!/bin/sh\n# vm: kernels=6.12\n');
    expect(one.map((suite) => suite.kernel)).toEqual(['6.12']);
    expect(one[0]?.part).toBe('vm');
  });

  it('says how it is booted', () => {
    const text = '#!/bin/sh\n# vm: kernels=6.1 smp=1 memory=512 timeout=60 icount=yes part=life\n';
    expect(describeSuite('x', '/x.sh', text)).toEqual([
      {
        name: 'x',
        script: '/x.sh',
        kernel: '6.1',
        smp: 1,
        memoryMb: 512,
        timeoutSeconds: 60,
        icount: true,
        part: 'life',
      },
    ]);
  });

  it.each(['cpus=1', 'smp', 'kernels=5.10', 'part=e2e'])('is refused with %s', (setting) => {
    expect(() => describeSuite('x', '/x.sh', `# vm: ${setting}\n`)).toThrow(/unknown/);
  });
});
