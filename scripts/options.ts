// SPDX-License-Identifier: Apache-2.0
/** Parsers of command line options, for commander. */
import { InvalidArgumentError } from 'commander';
import { type KernelSeries, kernelSeries, parseSeries } from './kernels.ts';

export function positiveOption(text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new InvalidArgumentError('A whole number above 0 is wanted.');
  return Number(text);
}

/** A parser of whole numbers from 0 to `most`. */
export function countUpTo(most: number): (text: string) => number {
  return (text) => {
    if (!/^\d+$/.test(text) || Number(text) > most)
      throw new InvalidArgumentError(`A whole number from 0 to ${most} is wanted.`);
    return Number(text);
  };
}

export function seriesOption(text: string): KernelSeries {
  try {
    return parseSeries(text);
  } catch (error) {
    throw new InvalidArgumentError(error instanceof Error ? error.message : String(error));
  }
}

/** For the kernel that the machine runs, where one may be chosen. */
export const RUNNING = 'running';

export function kernelOption(text: string): KernelSeries | typeof RUNNING {
  const found = [...kernelSeries, RUNNING].find((choice) => choice === text);
  if (found === undefined) throw new InvalidArgumentError(`Use ${[...kernelSeries, RUNNING].join(', ')}.`);
  return found as KernelSeries | typeof RUNNING;
}
