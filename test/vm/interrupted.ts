// SPDX-License-Identifier: Apache-2.0
import { constants } from 'node:os';

/**
 * A signal for `VmOptions.signal` that fires when this process is told to end, so that the machine and
 * the temporary files of a run go before the process does; a second signal ends the process at once.
 */
export function interrupted(): AbortSignal {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      const status = 128 + constants.signals[name];
      if (controller.signal.aborted) process.exit(status);
      controller.abort();
      process.once('exit', () => {
        process.exitCode = status;
      });
    });
  }
  return controller.signal;
}
