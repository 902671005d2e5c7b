// SPDX-License-Identifier: Apache-2.0

/** State letter and start time (clock ticks since boot) out of /proc/PID/stat. */
export function parseStat(text: string): { state: string; start: string } {
  // the second field is the program's name in brackets and may hold anything, brackets too
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { state: fields[0] ?? '', start: fields[19] ?? '' };
}
