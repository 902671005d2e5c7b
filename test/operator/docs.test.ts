// SPDX-License-Identifier: Apache-2.0
/** The commands of the documentation, one after the other as a page shows them, on a real API server. */
import { dirname } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { repository } from '../../scripts/cache.ts';
import { run } from '../../scripts/exec.ts';
import { commandsOf, documentedBlocks } from '../documented.ts';
import { kubeconfigFile } from './api-server.ts';

const PAGES = ['README.md', 'docs/install.md', 'docs/enable.md'] as const;
const NAMESPACE = 'ipvs-bpf';
const programs = [process.env.IPVS_BPF_TEST_KUBECTL, process.env.IPVS_BPF_TEST_HELM].flatMap((path) =>
  path === undefined ? [] : [dirname(path)],
);

/** In this checkout, as an administrator runs it. */
function shell(script: string): Promise<string> {
  const path = [...programs, process.env.PATH].join(':');
  const env = { ...process.env, PATH: path, KUBECONFIG: kubeconfigFile() };
  return run('bash', ['-euo', 'pipefail', '-c', script], { cwd: repository, env, timeoutMs: 50_000 });
}

/** There is no operator and no node here: what it would say of a policy is said for it. */
async function sayReady(policy: string): Promise<void> {
  const time = `${new Date().toISOString().slice(0, 19)}Z`;
  const condition = { type: 'Ready', status: 'True', reason: 'DryRunPassed', message: '' };
  const status = { conditions: [{ ...condition, lastTransitionTime: time }] };
  const patch = JSON.stringify({ status });
  await shell(`kubectl patch ${policy} --subresource status --type merge -p '${patch}'`);
}

/** How a kind of command is tried: as it stands, or as near to that as a cluster without nodes allows. */
const WAYS: readonly (readonly [RegExp, (command: string) => Promise<unknown>])[] = [
  [/^kubectl (create|label|apply|patch|describe) /, shell],
  // The kinds are there already, of the release that the other tests use.
  [/^helm install /, (command) => shell(`${uncommented(command)} --dry-run=server --take-ownership`)],
  [/^kubectl get .* --watch$/, (command) => shell(command.replace(/ --watch$/, ''))],
  [
    /^kubectl wait .*ipvsbpfpolicy\//,
    async (command) => {
      await sayReady(/ipvsbpfpolicy\/\w+/.exec(command)?.[0] ?? '');
      await shell(command);
    },
  ],
  // On a cluster with nodes: test/e2e.
  [/^kubectl ipvs-bpf (status|preflight)\b/, async () => undefined],
];

const uncommented = (command: string) => command.replace(/ +# .*$/, '');
const isAsked = (command: string) => /^(kubectl|helm) /.test(command);

describe('the documentation', () => {
  const removeAll = async () => {
    await shell('kubectl delete ipvsbpfpolicy --all');
    await shell(`kubectl delete namespace ${NAMESPACE} --ignore-not-found`);
  };

  beforeEach(removeAll);

  afterEach(removeAll);

  it.each(PAGES)('%s: the API server takes every command of kubectl and helm', async (page) => {
    const commands = documentedBlocks(page).flatMap(commandsOf).filter(isAsked);
    expect(commands.length).toBeGreaterThan(1);
    for (const command of commands) {
      const [, way] = WAYS.find(([pattern]) => pattern.test(uncommented(command))) ?? [];
      if (way === undefined) throw new Error(`nobody knows how to try "${command}"`);
      await way(command);
    }
  });

  it('README.md: kubectl explain is the manual of the fields', async () => {
    const fields = await shell('kubectl explain ipvsbpfpolicy --recursive');
    expect(fields).toMatch(/^ {2}spec\s+<Object>/m);
    for (const field of ['nodeSelector', 'kernelMappings', 'maxUnavailable']) expect(fields).toContain(field);
  });
});
