// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { lineSplitter } from '../../vm/lines.ts';
import { StreamEnd } from '../../vm/stream-end.ts';

const mark = 'end-mark';

/** What passes when `text` comes in pieces of these lengths, and whether the end was seen. */
function pass(text: string, lengths: readonly number[]) {
  let out = '';
  const stream = new StreamEnd(mark, (chunk) => {
    out += chunk.toString('latin1');
  });
  let rest = Buffer.from(text, 'latin1');
  for (const length of lengths) {
    stream.push(rest.subarray(0, length));
    rest = rest.subarray(length);
  }
  stream.push(rest);
  const ended = stream.ended;
  stream.flush();
  return { out, ended };
}

describe('a stream with an end mark', () => {
  it('passes everything before the mark, however it is cut', () => {
    const nearly = fc
      .array(fc.constantFrom('e', 'end-', 'end-mark', '\n', 'x', '\u00ff'))
      .map((words) => words.join(''));
    fc.assert(
      fc.property(nearly, fc.array(fc.integer({ min: 1, max: 5 })), (text, lengths) => {
        fc.pre(!text.includes(`${mark}\n`) && !text.endsWith(mark));
        expect(pass(`${text}${mark}\n`, lengths)).toEqual({ out: text, ended: true });
      }),
    );
  });

  it('passes all that came when the mark never does', () => {
    expect(pass('half a line end-ma', [3, 9])).toEqual({ out: 'half a line end-ma', ended: false });
  });

  it('holds nothing back that cannot be the mark', () => {
    const chunks: string[] = [];
    const stream = new StreamEnd(mark, (chunk) => chunks.push(chunk.toString()));
    stream.push(Buffer.from('prompt> '));
    expect(chunks).toEqual(['prompt> ']);
  });
});

describe('lines', () => {
  it('come complete, whatever the pieces', () => {
    const lines: string[] = [];
    const splitter = lineSplitter((line) => lines.push(line));
    const text = Buffer.from('erste\nzweite ü\n\nrest');
    for (const byte of text) splitter.push(Buffer.of(byte));
    splitter.end();
    expect(lines).toEqual(['erste', 'zweite ü', '', 'rest']);
  });
});
