// SPDX-License-Identifier: Apache-2.0
/**
 * Files of /proc and /sys, and small ones beside them. No device makes these wait, and by way of Node's thread pool
 * each would cost some thirty times as much: an agent reads hundreds of them at each look.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { errnoError, errnoOf, isNotFound } from '../core/errors.ts';

/** Undefined if there is no such file, or no such process. @throws HostError */
export function readIfThere(path: string): string | undefined {
  return ifThere(path, () => readFileSync(path, 'utf8'));
}

/** Sorted. Undefined if there is no such directory, or no such process. @throws HostError */
export function listIfThere(path: string): readonly string[] | undefined {
  return ifThere(path, () => readdirSync(path).sort());
}

/** Undefined if there is no such link, or no such process. @throws HostError */
export function linkIfThere(path: string): string | undefined {
  return ifThere(path, () => readlinkSync(path));
}

function ifThere<T>(path: string, read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw errnoError(`read ${path}`, errnoOf(error) ?? 'EIO', error);
  }
}
