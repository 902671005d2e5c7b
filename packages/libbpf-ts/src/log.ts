// SPDX-License-Identifier: Apache-2.0
import koffi from 'koffi';
import { BpfError } from './errors.ts';
import { callback, type Libbpf, lastErrno, libbpf } from './native.ts';

export type LogLevel = 'warn' | 'info' | 'debug';
/** Receives libbpf's messages, one or more lines without the last line break. */
export type LogHandler = (level: LogLevel, message: string) => void;

const LEVELS: readonly LogLevel[] = ['warn', 'info', 'debug'];
const VERIFIER_LOG = /-- BEGIN PROG LOAD LOG --\n([\s\S]*?)-- END PROG LOAD LOG --/;

let handler: LogHandler | undefined;
let captured: string[] | undefined;
let installed = false;

/**
 * Sends what libbpf prints to `next`, or drops it (undefined; the default: nothing is ever written
 * to standard error). Errors carry libbpf's warnings either way. An exception that the handler
 * throws becomes a process warning, because C code is on the stack.
 */
export function setLogHandler(next: LogHandler | undefined): void {
  handler = next;
  install();
}

/** Runs `body` on libbpf; messages that libbpf prints meanwhile go into the error that it ends with. */
export function call(
  operation: string,
  subject: string | undefined,
  body: (native: Libbpf) => number,
): number {
  const { result, log } = capture(body);
  if (result < 0) throw failure(operation, -result, subject, log);
  return result;
}

/** As `call`, for functions that return a pointer, or null and errno. */
export function callForPointer<P extends bigint>(
  operation: string,
  subject: string | undefined,
  body: (native: Libbpf) => P | null,
): P {
  const { result, errno, log } = capture(body);
  if (result === null) throw failure(operation, errno, subject, log);
  return result;
}

function capture<T>(body: (native: Libbpf) => T): { result: T; errno: number; log: string[] } {
  install();
  const outer = captured;
  const log: string[] = [];
  captured = log;
  try {
    const result = body(libbpf());
    return { result, errno: lastErrno(), log };
  } finally {
    captured = outer;
  }
}

function failure(
  operation: string,
  errno: number,
  subject: string | undefined,
  log: readonly string[],
): BpfError {
  const verifierLog = log.map((line) => VERIFIER_LOG.exec(line)?.[1]).find((text) => text);
  // The first message names the cause; those behind it only what failed because of it.
  const reason = log.find((line) => !VERIFIER_LOG.test(line));
  return new BpfError({ operation, errno, subject, reason, log, verifierLog });
}

/** libbpf has one print function a process; it is set once and never taken back. */
function install(): void {
  if (installed) return;
  const libc = koffi.load('libc.so.6');
  // vasprintf makes room for any length; a verifier log may have megabytes.
  const vasprintf = libc.func('int vasprintf(void *out, void *format, void *arguments)');
  const free = libc.func('void free(void *memory)');
  const text = new BigUint64Array(1);
  const print = (level: number, format: bigint, args: bigint): number => {
    const length: number = vasprintf(text, format, args);
    if (length < 0) return length;
    const message: string = koffi.decode.string(text[0], length);
    free(text[0]);
    deliver(LEVELS[level] ?? 'debug', message.trimEnd());
    return length;
  };
  libbpf().libbpf_set_print(callback('int', ['int', 'void *', 'void *'], print));
  installed = true;
}

function deliver(level: LogLevel, message: string): void {
  if (level === 'warn') captured?.push(message.replace(/^libbpf: /, ''));
  try {
    handler?.(level, message);
  } catch (error) {
    process.emitWarning(error instanceof Error ? error : new Error(String(error)));
  }
}
