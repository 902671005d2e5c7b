// SPDX-License-Identifier: Apache-2.0
/** Ctrl-C and SIGTERM: work is told to end, and may tidy up. */

export class Stopped extends Error {
  override readonly name = 'Stopped';
}

/** Runs `work` with a signal that is given on SIGINT and SIGTERM. A second one ends the process as usual. */
export async function untilStopped<T>(work: (stop: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const stop = (): void => {
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
    controller.abort(new Stopped('stopped'));
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  try {
    return await work(controller.signal);
  } catch (error) {
    // What was cut short says so in many ways.
    throw controller.signal.aborted ? controller.signal.reason : error;
  } finally {
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
  }
}
