// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Outcome } from './report.ts';
import type { Half, Results } from './table.ts';

/** What was measured, in a file, so that the two halves can be run one by one. */
export class ResultsFile {
  readonly #file: string;
  #results: Results;

  /** Opens the file if it is there; results of another version of Kubernetes are forgotten. */
  constructor(file: string, kubernetes: string) {
    this.#file = file;
    const known = readResults(file);
    this.#results = known?.kubernetes === kubernetes ? known : { kubernetes, native: {}, accelerated: {} };
  }

  get results(): Results {
    return this.#results;
  }

  forget(half: Half, names: readonly string[]): void {
    const kept = Object.entries(this.#results[half]).filter(([name]) => !names.includes(name));
    this.#write({ ...this.#results, [half]: Object.fromEntries(kept) });
  }

  record(half: Half, name: string, outcome: Outcome): void {
    this.#write({ ...this.#results, [half]: { ...this.#results[half], [name]: outcome } });
  }

  #write(results: Results): void {
    this.#results = results;
    mkdirSync(dirname(this.#file), { recursive: true });
    writeFileSync(`${this.#file}.new`, `${JSON.stringify(results, null, 2)}\n`);
    renameSync(`${this.#file}.new`, this.#file);
  }
}

function readResults(file: string): Results | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Results;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
