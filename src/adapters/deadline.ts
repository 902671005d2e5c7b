// SPDX-License-Identifier: Apache-2.0

/** A time is waited for in so many parts. */
const PARTS = 10;

/**
 * Calls `act` when this process has waited for something so long in vain, and has handled all that came in by then.
 * On a busy machine a process may not get the processor for seconds. Its timers are due then before it has seen the
 * packets that were in time; so a part of the time counts as one, however long it took, and packets go first.
 * @returns ends the waiting
 */
export function deadline(milliseconds: number, act: () => void): () => void {
  let left = PARTS;
  let after: NodeJS.Immediate | undefined;
  const timer = setInterval(() => {
    left -= 1;
    if (left > 0) return;
    clearInterval(timer);
    after = setImmediate(act);
  }, milliseconds / PARTS);
  return () => {
    clearInterval(timer);
    clearImmediate(after);
  };
}
