// SPDX-License-Identifier: Apache-2.0

export interface TapResult {
  readonly passed: number;
  /** One text for each case that failed, and for each sign that the run was not complete. */
  readonly failures: readonly string[];
}

/** Counts the cases of one TAP stream (flat, with a plan), fed line by line. */
export class TapReader {
  #passed = 0;
  readonly #failures: string[] = [];
  #planned: number | undefined;

  /** @returns whether the line is part of TAP, and not something else that the tests printed */
  line(text: string): boolean {
    const plan = /^1\.\.(\d+)/.exec(text)?.[1];
    if (plan !== undefined) {
      this.#planned = Number(plan);
      return true;
    }
    const [, not, name = ''] = /^(not )?ok\b(.*)$/.exec(text) ?? [];
    if (!/^(not )?ok\b/.test(text)) return false;
    if (not !== undefined) this.#failures.push(name.trim());
    // here nothing is skipped: what cannot run has to fail
    else if (/# *(skip|todo)\b/i.test(name)) this.#failures.push(`skipped: ${name.trim()}`);
    else this.#passed += 1;
    return true;
  }

  result(): TapResult {
    const seen = this.#passed + this.#failures.length;
    const failures = [...this.#failures];
    if (this.#planned === undefined) failures.push(`no plan (1..N) after ${seen} cases: it ended early`);
    else if (this.#planned === 0) failures.push('the plan has no cases');
    else if (this.#planned !== seen) failures.push(`planned ${this.#planned} cases, ran ${seen}`);
    return { passed: this.#passed, failures };
  }
}
