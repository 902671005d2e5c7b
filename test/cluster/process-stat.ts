// SPDX-License-Identifier: Apache-2.0

/** State letter, start time (clock ticks since boot) and used time of processors (ticks) out of /proc/PID/stat. */
export function parseStat(text: string): { state: string; start: string; used: number } {
  // the second field is the program's name in brackets and may hold anything, brackets too
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { state: fields[0] ?? '', start: fields[19] ?? '', used: Number(fields[11]) + Number(fields[12]) };
}
