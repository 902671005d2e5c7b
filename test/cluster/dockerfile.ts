// SPDX-License-Identifier: Apache-2.0

/**
 * The last stage of a Dockerfile alone, for parts that were built outside of it: what it copies from an
 * earlier stage comes from a folder of that stage's name in the build context.
 */
export function lastStage(text: string): string {
  const starts = [...text.matchAll(/^FROM .*$/gm)].map(({ index }) => index);
  const first = starts[0];
  const last = starts.at(-1);
  if (first === undefined || last === undefined) throw new Error('the Dockerfile has no FROM');
  const stage = text.slice(last).replace(/^COPY --from=(\S+) \/(.*)$/gm, 'COPY $1/$2');
  return text.slice(0, first) + stage;
}
