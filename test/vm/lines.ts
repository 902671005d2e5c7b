// SPDX-License-Identifier: Apache-2.0
import { StringDecoder } from 'node:string_decoder';

export interface Lines {
  readonly push: (chunk: Buffer) => void;
  /** Hand over a last line that has no line feed. */
  readonly end: () => void;
}

/** Cuts a stream of UTF-8 into lines, as they are complete. */
export function lineSplitter(onLine: (line: string) => void): Lines {
  const decoder = new StringDecoder('utf8');
  let rest = '';
  return {
    push(chunk) {
      const lines = (rest + decoder.write(chunk)).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) onLine(line);
    },
    end() {
      if (rest !== '') onLine(rest);
      rest = '';
    },
  };
}
