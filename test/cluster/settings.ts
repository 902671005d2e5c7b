// SPDX-License-Identifier: Apache-2.0
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { KernelSeries } from '../../scripts/kernels.ts';
import type { IpFamilies } from './ip-families.ts';

/** What a cluster was started with; it stays so until `down`, but for the number of nodes. */
export interface Settings {
  /** Full version: `1.34.4`. */
  readonly kubernetes: string;
  readonly kernel: KernelSeries;
  /** Nodes with another kernel, from their next start on. */
  readonly nodeKernels: Readonly<Record<string, KernelSeries>>;
  readonly nodes: number;
  readonly ipFamilies: IpFamilies;
  readonly memoryMb: number;
  /** Port of 127.0.0.1 that leads to the API server. */
  readonly apiPort: number;
  /** Image archives that nodes have from their start, beside those of the tests. */
  readonly images: readonly string[];
}

export type Wish = Partial<Omit<Settings, 'apiPort'>>;

const defaults = {
  kernel: '6.1',
  nodeKernels: {},
  nodes: 2,
  ipFamilies: 'ipv4',
  memoryMb: 3072,
  images: [],
} as const;

/**
 * Settings for `up`: what is asked for, else what runs, else the defaults.
 * @throws Error when a running cluster would have to become another one
 */
export function mergeSettings(
  wish: Wish,
  present: Settings | undefined,
  fresh: Pick<Settings, 'kubernetes' | 'apiPort'>,
): Settings {
  if (present === undefined) return { ...defaults, ...fresh, ...wish };
  for (const key of ['kubernetes', 'kernel', 'ipFamilies', 'memoryMb'] as const) {
    if (wish[key] !== undefined && wish[key] !== present[key]) {
      throw new Error(`a cluster with ${key} ${present[key]} is running: take it down to have ${wish[key]}`);
    }
  }
  return {
    ...present,
    nodes: wish.nodes ?? defaults.nodes,
    nodeKernels: { ...present.nodeKernels, ...wish.nodeKernels },
    images: wish.images ?? present.images,
  };
}

export async function readSettings(file: string): Promise<Settings | undefined> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  // A cluster from before there was a choice is one of IPv4.
  return { ipFamilies: 'ipv4', ...(JSON.parse(text) as Omit<Settings, 'ipFamilies'>) };
}

export async function writeSettings(file: string, settings: Settings): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  await writeFile(`${file}.new`, `${JSON.stringify(settings, null, 2)}\n`);
  await rename(`${file}.new`, file);
}
