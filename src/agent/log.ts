// SPDX-License-Identifier: Apache-2.0

export type LogFields = Readonly<Record<string, unknown>>;

/** A constant text with fields, as winston's loggers take it. */
export interface Log {
  error(message: string, fields?: LogFields): unknown;
  warn(message: string, fields?: LogFields): unknown;
  info(message: string, fields?: LogFields): unknown;
  debug(message: string, fields?: LogFields): unknown;
}
