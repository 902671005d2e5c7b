// SPDX-License-Identifier: Apache-2.0
/** Configuration from environment variables: typed, with defaults, and with all problems at once. */

export class EnvironmentError extends Error {
  /** The command line takes this name as wrong usage. */
  override readonly name = 'ConfigError';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(`the environment is not valid:\n${problems.map((problem) => `  ${problem}`).join('\n')}`);
    this.problems = problems;
  }
}

/** Reads one variable; undefined means that it is not set. Throws an Error that says what is accepted. */
export type Variable<T> = (text: string | undefined) => T;

export function text(fallback?: string): Variable<string> {
  return (value) => {
    const chosen = value || fallback;
    if (chosen === undefined) throw new Error('is required');
    return chosen;
  };
}

export function optionalText(): Variable<string | undefined> {
  return (value) => value || undefined;
}

export function integer(limits: {
  readonly min: number;
  readonly max: number;
  readonly fallback: number;
}): Variable<number> {
  return (value) => {
    if (value === undefined || value === '') return limits.fallback;
    const number = Number(value);
    if (!/^\d+$/.test(value) || number < limits.min || number > limits.max) {
      throw new Error(`must be a whole number from ${limits.min} to ${limits.max}, not "${value}"`);
    }
    return number;
  };
}

export function oneOf<T extends string>(accepted: readonly T[], fallback: T): Variable<T> {
  return (value) => {
    if (value === undefined || value === '') return fallback;
    const found = accepted.find((one) => one === value);
    if (found === undefined) throw new Error(`must be one of ${accepted.join(', ')}, not "${value}"`);
    return found;
  };
}

/** A JSON text; `check` throws an Error that says what is accepted. */
export function json<T>(fallback: T, check: (value: unknown) => T): Variable<T> {
  return (value) => {
    if (value === undefined || value === '') return fallback;
    let parsed: unknown;
    try {
      parsed = JSON.parse(value);
    } catch (cause) {
      throw new Error(`must be JSON: ${cause instanceof Error ? cause.message : cause}`, { cause });
    }
    return check(parsed);
  };
}

type Values<T> = { readonly [Name in keyof T]: T[Name] extends Variable<infer V> ? V : never };

/**
 * @throws EnvironmentError with every problem, and with every variable of our prefix that is unknown
 */
export function readEnvironment<T extends Readonly<Record<string, Variable<unknown>>>>(
  environment: Readonly<Record<string, string | undefined>>,
  variables: T,
  options: { readonly prefix: string; readonly alsoKnown?: readonly string[] },
): Values<T> {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [name, read] of Object.entries(variables)) {
    try {
      values[name] = read(environment[name]);
    } catch (error) {
      problems.push(`${name} ${error instanceof Error ? error.message : error}`);
    }
  }
  const known = new Set([...Object.keys(variables), ...(options.alsoKnown ?? [])]);
  for (const name of Object.keys(environment)) {
    if (name.startsWith(options.prefix) && !known.has(name)) {
      problems.push(`${name} is not known; known are ${[...known].sort().join(', ')}`);
    }
  }
  if (problems.length > 0) throw new EnvironmentError(problems);
  return values as Values<T>;
}
