// SPDX-License-Identifier: Apache-2.0

/**
 * One stage of a Dockerfile alone, the last one if none is named, for parts that were built outside of it: what it
 * copies from an earlier stage comes from a folder of that stage's name in the build context.
 */
export function singleStage(text: string, name?: string): string {
  const [head = '', ...stages] = text.split(/^(?=FROM )/m);
  const stage = name === undefined ? stages.at(-1) : stages.find((each) => nameOf(each) === name);
  if (stage === undefined)
    throw new Error(`the Dockerfile has no ${name === undefined ? 'FROM' : `stage ${name}`}`);
  return head + stage.replace(/^COPY --from=(\S+) \/(.*)$/gm, 'COPY $1/$2');
}

function nameOf(stage: string): string | undefined {
  return /^FROM \S+ AS (\S+)/.exec(stage)?.[1];
}
