// SPDX-License-Identifier: Apache-2.0
/** Log lines on standard error, by winston, which is only loaded when there is something to say. */
import type { Logger } from 'winston';

export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const;
export const LOG_FORMATS = ['text', 'json'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export type LogFormat = (typeof LOG_FORMATS)[number];

type Fields = Readonly<Record<string, unknown>>;

interface Line {
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: Fields;
  readonly timestamp: string;
}

/** Takes a constant text plus fields. Call close() before the process ends, or lines are lost. */
export class LineLogger {
  readonly #level: LogLevel;
  readonly #format: LogFormat;
  #logger: Logger | undefined;
  #writing: Promise<void> = Promise.resolve();
  #end: Promise<void> | undefined;

  constructor(options: { readonly level: LogLevel; readonly format: LogFormat }) {
    this.#level = options.level;
    this.#format = options.format;
  }

  error(message: string, fields: Fields = {}): void {
    this.#write('error', message, fields);
  }

  warn(message: string, fields: Fields = {}): void {
    this.#write('warn', message, fields);
  }

  info(message: string, fields: Fields = {}): void {
    this.#write('info', message, fields);
  }

  debug(message: string, fields: Fields = {}): void {
    this.#write('debug', message, fields);
  }

  /** Resolves when every line is written. What is said later, by work that was given up, goes nowhere. */
  close(): Promise<void> {
    this.#end ??= this.#finish();
    return this.#end;
  }

  async #finish(): Promise<void> {
    await this.#writing;
    const logger = this.#logger;
    if (logger === undefined) return;
    await new Promise<void>((resolve) => {
      logger.once('finish', resolve);
      logger.end();
    });
  }

  #write(level: LogLevel, message: string, fields: Fields): void {
    if (this.#end !== undefined || LOG_LEVELS.indexOf(level) > LOG_LEVELS.indexOf(this.#level)) return;
    const line: Line = { level, message, fields, timestamp: new Date().toISOString() };
    this.#writing = this.#writing.then(async () => {
      this.#logger ??= await createWinston(this.#level, this.#format);
      this.#logger.log({ ...line.fields, level, message, timestamp: line.timestamp });
    });
  }
}

async function createWinston(level: LogLevel, format: LogFormat): Promise<Logger> {
  const { createLogger, format: formats, transports } = (await import('winston')).default;
  const text = formats.printf(({ timestamp, level: at, message, ...fields }) => {
    const values = Object.entries(fields).map(([name, value]) => ` ${name}=${quoted(value)}`);
    return `${timestamp} ${at.padEnd(5)} ${message}${values.join('')}`;
  });
  return createLogger({
    level,
    format: format === 'json' ? formats.json() : text,
    transports: [new transports.Stream({ stream: process.stderr })],
  });
}

function quoted(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return /[\s"=]/.test(text) ? JSON.stringify(text) : text;
}
