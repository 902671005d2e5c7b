// SPDX-License-Identifier: Apache-2.0

export interface TapResult {
  readonly passed: number;
  /** One text for each case that failed, and for each sign that the run was not complete. */
  readonly failures: readonly string[];
}

/** The last lines of what a failed case says that its summary has room for: whoever reads only the end of a log. */
const REASON_LINES = 12;

interface FailedCase {
  readonly name: string;
  /** What the block of lines after it says, from `---` to `...`. */
  readonly reason: string[];
}

/** Counts the cases of one TAP stream (flat, with a plan), fed line by line. */
export class TapReader {
  #passed = 0;
  readonly #failures: FailedCase[] = [];
  #planned: number | undefined;
  /** Of the failed case whose block is being read. */
  #block: string[] | undefined;

  /** @returns whether the line is part of TAP, and not something else that the tests printed */
  line(text: string): boolean {
    if (/^ {2}/.test(text)) return this.#blockLine(text);
    this.#block = undefined;
    const plan = /^1\.\.(\d+)/.exec(text)?.[1];
    if (plan !== undefined) {
      this.#planned = Number(plan);
      return true;
    }
    const [, not, name = ''] = /^(not )?ok\b(.*)$/.exec(text) ?? [];
    if (!/^(not )?ok\b/.test(text)) return false;
    if (not !== undefined) this.#fail(name.trim());
    // here nothing is skipped: what cannot run has to fail
    else if (/# *(skip|todo)\b/i.test(name)) this.#fail(`skipped: ${name.trim()}`);
    else this.#passed += 1;
    return true;
  }

  #fail(name: string): void {
    this.#failures.push({ name, reason: [] });
  }

  #blockLine(text: string): boolean {
    if (text === '  ---') this.#block = this.#failures.at(-1)?.reason;
    else if (text === '  ...') this.#block = undefined;
    else if (this.#block === undefined) return false;
    else this.#block.push(text);
    return true;
  }

  result(): TapResult {
    const seen = this.#passed + this.#failures.length;
    const failures = this.#failures.map(({ name, reason }) =>
      [name, ...reason.slice(-REASON_LINES)].join('\n'),
    );
    if (this.#planned === undefined) failures.push(`no plan (1..N) after ${seen} cases: it ended early`);
    else if (this.#planned === 0) failures.push('the plan has no cases');
    else if (this.#planned !== seen) failures.push(`planned ${this.#planned} cases, ran ${seen}`);
    return { passed: this.#passed, failures };
  }
}
