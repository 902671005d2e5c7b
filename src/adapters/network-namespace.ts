// SPDX-License-Identifier: Apache-2.0
/** Moves this process' main thread into a network namespace and back: a socket stays where it was made. */
import { closeSync, openSync } from 'node:fs';
import koffi from 'koffi';
import { errnoError } from '../core/errors.ts';

const CLONE_NEWNET = 0x40000000;

type SetNs = (fd: number, kind: number) => number;

/**
 * Runs `act` in the namespace at `path` (/run/netns/NAME). Everything that the main thread does until it ends is
 * done there, so that nothing else may be under way; sockets that exist already are not affected.
 */
export async function inNetworkNamespace<T>(path: string, act: () => Promise<T>): Promise<T> {
  const setns: SetNs = koffi.load('libc.so.6').func('int setns(int fd, int kind)');
  const own = openSync('/proc/thread-self/ns/net', 'r');
  try {
    const other = openSync(path, 'r');
    try {
      enter(setns, other, path);
    } finally {
      closeSync(other);
    }
    try {
      return await act();
    } finally {
      enter(setns, own, 'the own network namespace');
    }
  } finally {
    closeSync(own);
  }
}

function enter(setns: SetNs, fd: number, name: string): void {
  if (setns(fd, CLONE_NEWNET) === 0) return;
  const errno = Object.entries(koffi.os.errno).find(([, number]) => number === koffi.errno())?.[0] ?? 'EIO';
  throw errnoError(`enter ${name}`, errno);
}
