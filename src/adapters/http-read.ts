// SPDX-License-Identifier: Apache-2.0
/** Asks a server of this host that may be anybody. */
import { get } from 'node:http';

export interface HttpQuestion {
  /** TCP port on 127.0.0.1. */
  readonly port: number;
  readonly path: string;
  /** For the whole answer. */
  readonly milliseconds: number;
  /** Of the answer's body. */
  readonly bytes: number;
}

/** The body; undefined if nobody answers with status 200, in time, and within so many bytes. */
export async function readHttp(question: HttpQuestion): Promise<string | undefined> {
  const { port, path, milliseconds, bytes } = question;
  const signal = AbortSignal.timeout(milliseconds);
  return new Promise((resolve) => {
    const asked = get({ host: '127.0.0.1', port, path, agent: false, signal }, (answer) => {
      const parts: Buffer[] = [];
      let length = 0;
      answer.on('data', (part: Buffer) => {
        parts.push(part);
        length += part.length;
        if (length > bytes) asked.destroy();
      });
      answer.on('error', () => resolve(undefined));
      answer.on('close', () => {
        const whole = answer.complete && answer.statusCode === 200 && length <= bytes;
        resolve(whole ? Buffer.concat(parts).toString('utf8') : undefined);
      });
    });
    asked.on('error', () => resolve(undefined));
  });
}
