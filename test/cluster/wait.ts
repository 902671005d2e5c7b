// SPDX-License-Identifier: Apache-2.0

/**
 * Asks until the answer is yes.
 * @throws Error that names what was waited for, after the limit; or what the question itself throws
 */
export async function waitFor(
  what: string,
  limitMs: number,
  question: () => Promise<boolean>,
  intervalMs = 100,
): Promise<void> {
  const end = Date.now() + limitMs;
  while (!(await question())) {
    if (Date.now() > end) throw new Error(`${what}: not ready after ${Math.round(limitMs / 1000)} s`);
    await new Promise((done) => setTimeout(done, intervalMs));
  }
}
