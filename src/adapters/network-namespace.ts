// SPDX-License-Identifier: Apache-2.0
/** A network namespace without a name: it ends, with all that is in it, when this process does. */
import { closeSync, openSync } from 'node:fs';
import koffi from 'koffi';
import { errnoError } from '../core/errors.ts';

const CLONE_NEWNET = 0x40000000;

interface Libc {
  readonly setns: (fd: number, kind: number) => number;
  readonly unshare: (kinds: number) => number;
}

export class NetworkNamespace {
  readonly #libc: Libc;
  readonly #fd: number;

  private constructor(libc: Libc, fd: number) {
    this.#libc = libc;
    this.#fd = fd;
  }

  /** `unshare --net`, kept open. Throws HostError. */
  static create(): NetworkNamespace {
    const library = koffi.load('libc.so.6');
    const libc: Libc = {
      setns: library.func('int setns(int fd, int kind)'),
      unshare: library.func('int unshare(int kinds)'),
    };
    const own = openOwn();
    try {
      check(libc.unshare(CLONE_NEWNET), 'make a network namespace');
      try {
        return new NetworkNamespace(libc, openOwn());
      } finally {
        check(libc.setns(own, CLONE_NEWNET), 'go back to the own network namespace');
      }
    } finally {
      closeSync(own);
    }
  }

  /** A path that other processes can open too, while this one lives. */
  get path(): string {
    return `/proc/${process.pid}/fd/${this.#fd}`;
  }

  /**
   * Runs `act` inside. Everything that the main thread does until it ends is done there, so that nothing else may
   * be under way; a socket stays where it was made.
   */
  async run<T>(act: () => Promise<T>): Promise<T> {
    const own = openOwn();
    try {
      check(this.#libc.setns(this.#fd, CLONE_NEWNET), 'enter a network namespace');
      try {
        return await act();
      } finally {
        check(this.#libc.setns(own, CLONE_NEWNET), 'go back to the own network namespace');
      }
    } finally {
      closeSync(own);
    }
  }

  /** The kernel removes the namespace when nothing else holds it. */
  close(): void {
    closeSync(this.#fd);
  }
}

/** The main thread's: /proc/self would be the same until it moves. */
function openOwn(): number {
  return openSync('/proc/thread-self/ns/net', 'r');
}

function check(result: number, action: string): void {
  if (result === 0) return;
  const errno = Object.entries(koffi.os.errno).find(([, number]) => number === koffi.errno())?.[0] ?? 'EIO';
  throw errnoError(action, errno);
}
