// SPDX-License-Identifier: Apache-2.0

/**
 * Calls `tick` again and again, between 90 % and 110 % of `intervalMs` apart, so that several processes
 * do not all call at once. Answers what ends it.
 */
export function every(intervalMs: number, tick: () => void, random: () => number): () => void {
  let timer: NodeJS.Timeout | undefined;
  const schedule = (): void => {
    timer = setTimeout(
      () => {
        tick();
        schedule();
      },
      intervalMs * (0.9 + 0.2 * random()),
    );
  };
  schedule();
  return () => clearTimeout(timer);
}
