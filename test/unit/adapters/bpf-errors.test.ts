// SPDX-License-Identifier: Apache-2.0
import { constants } from 'node:os';
import { BpfError } from 'libbpf-ts';
import { expect, test } from 'vitest';
import { refusalOf, translated } from '../../../src/adapters/bpf-errors.ts';

function loading(errno: number) {
  const operation = 'bpf_object__load';
  return () =>
    translated('load x', () => {
      throw new BpfError({ operation, errno, verifierLog: '0: (b7) r0 = 0\n' });
    });
}

test('a program that the verifier refuses is rejected, with the log', () => {
  expect(loading(constants.errno.EACCES)).toThrow(
    expect.objectContaining({
      code: 'VerifierRejected',
      retry: false,
      message: expect.stringContaining('r0 = 0'),
    }),
  );
});

test.each([
  ['EAGAIN', 'Busy', true],
  ['EINTR', 'Interrupted', true],
  ['ENOMEM', 'NoSpace', false],
] as const)('%s ends a verification that has come to no verdict', (name, code, retry) => {
  expect(loading(constants.errno[name])).toThrow(expect.objectContaining({ code, errno: name, retry }));
});

test('what is refused is told, and what ends without a verdict is thrown', () => {
  expect(refusalOf(() => undefined)).toBeUndefined();
  expect(refusalOf(loading(constants.errno.EINVAL))).toContain('r0 = 0');
  for (const name of ['EAGAIN', 'EINTR', 'ENOMEM'] as const)
    expect(() => refusalOf(loading(constants.errno[name]))).toThrow(name);
});
