// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { kernelText, nodesText } from '../../../src/cli/preflight-text.ts';
import { nodesPreflight, policiesForKernel } from '../../../src/core/cluster-preflight.ts';
import { condition, node, policy } from '../core/cluster/builders.ts';
import { readyNode } from './objects.ts';

const mapped = policy('mapped', {
  module: {
    activation: 'Live',
    kernelMappings: [
      { literal: '6.1.0-1-amd64', path: '/srv/exact.ko' },
      { regexp: '6\\.12\\..*-amd64', path: `/srv/\${KERNEL_FULL_VERSION}/ip_vs.ko` },
    ],
    imagePullSecrets: [],
    unsupportedKernel: 'Fail',
  },
});

describe('the module for a kernel', () => {
  it('is that of the first mapping that fits', () => {
    expect(policiesForKernel([mapped, policy('other')], '6.12.9-amd64')).toEqual([
      {
        policy: 'mapped',
        kernel: '6.12.9-amd64',
        module: { fits: true, by: 'regexp 6\\.12\\..*-amd64', path: '/srv/6.12.9-amd64/ip_vs.ko' },
      },
      { policy: 'other', kernel: '6.12.9-amd64', module: { fits: true, by: 'delivered' } },
    ]);
    const [exact] = policiesForKernel([mapped], '6.1.0-1-amd64');
    expect(exact?.module).toEqual({ fits: true, by: 'literal 6.1.0-1-amd64', path: '/srv/exact.ko' });
  });

  it('is named by its image, if it has one', () => {
    const kernelMappings = [{ regexp: '.*', image: `r/ip-vs:\${KERNEL_FULL_VERSION}` }];
    const module = {
      activation: 'Live' as const,
      kernelMappings,
      imagePullSecrets: [],
      unsupportedKernel: 'Skip' as const,
    };
    const found = policiesForKernel([policy('p', { module })], '6.12.9+a');
    expect(found[0]?.module).toMatchObject({ fits: true, by: 'regexp .*', image: 'r/ip-vs:6.12.9_a' });
    expect(kernelText(found, '6.12.9+a')).toContain('r/ip-vs:6.12.9_a (regexp .*)');
  });

  it('is none where no mapping fits, and the text says what becomes of such nodes', () => {
    const found = policiesForKernel([mapped], '6.99.0');
    expect(found[0]?.module).toEqual({ fits: false, unsupportedKernel: 'Fail' });
    expect(kernelText(found, '6.99.0')).toContain('count as failed (module.unsupportedKernel: Fail)');
  });

  it('is module.path of a policy that has one', () => {
    const one = policy('one', {
      module: {
        activation: 'Live',
        path: '/x.ko',
        kernelMappings: [],
        imagePullSecrets: [],
        unsupportedKernel: 'Skip',
      },
    });
    expect(policiesForKernel([one], '6.1')[0]?.module).toEqual({
      fits: true,
      by: 'module.path',
      path: '/x.ko',
    });
  });
});

describe('the checks of the nodes', () => {
  const edge = policy('edge', { nodeSelector: { matchLabels: { pool: 'edge' } } });
  const labels = { pool: 'edge' };
  const resultsOf = (nodes: ReturnType<typeof node>[], nodeObjects: ReturnType<typeof readyNode>[] = []) =>
    nodesPreflight({ policies: [edge], nodes, nodeObjects }).map(
      ({ node: name, result }) => `${name} ${result}`,
    );

  it('are those of the nodes that a policy selects', () => {
    const passed = readyNode('n1', 'edge');
    const failed = readyNode('n2', 'edge', {
      conditions: [condition('PreflightPassed', 'False', 'ModuleInUse')],
    });
    const old = { ...readyNode('n3', 'edge'), metadata: { name: 'n3', generation: 2 } };
    const nodes = ['n1', 'n2', 'n3', 'n4'].map((name) => node(name, labels));
    expect(resultsOf([...nodes, node('n5')], [passed, failed, old])).toEqual([
      'n1 Passed',
      'n2 Failed',
      'n3 NotReported',
      'n4 NotReported',
    ]);
  });

  it('are not made on nodes that are left alone', () => {
    const skipped = node('n1', { ...labels, 'ipvs-bpf.io/skip': 'true' });
    expect(resultsOf([skipped], [readyNode('n1', 'edge')])).toEqual(['n1 Skipped']);
  });

  it('fail where the policy has no module for the kernel', () => {
    const [found] = nodesPreflight({
      policies: [
        policy('p', {
          module: {
            activation: 'Live',
            kernelMappings: [{ literal: 'x', path: '/x' }],
            imagePullSecrets: [],
            unsupportedKernel: 'Fail',
          },
        }),
      ],
      nodes: [node('n1')],
      nodeObjects: [],
    });
    expect(found).toMatchObject({ result: 'Failed', module: { fits: false } });
  });

  it('are of the older policy where two select a node', () => {
    const younger = policy('a-younger', {}, { creationTimestamp: '2025-06-01T00:00:00Z' });
    const [found] = nodesPreflight({
      policies: [younger, edge],
      nodes: [node('n1', labels)],
      nodeObjects: [],
    });
    expect(found?.policy).toBe('edge');
  });

  it('are listed with what did not pass', () => {
    const preflight = [
      { check: 'Root', result: 'Pass' as const, message: '' },
      { check: 'ModuleHolders', result: 'Fail' as const, message: 'ip_vs is in use by xt_ipvs.' },
    ];
    const conditions = [condition('PreflightPassed', 'False', 'ModuleInUse')];
    const shown = nodesText(
      nodesPreflight({
        policies: [edge],
        nodes: [node('n1', labels)],
        nodeObjects: [readyNode('n1', 'edge', { preflight, conditions })],
      }),
    );
    expect(`\n${shown}`).toMatchInlineSnapshot(`
      "
      NODE  POLICY  KERNEL         KUBE-PROXY    CHECKS  MODULE
      n1    edge    6.1.0-1-amd64  ipvs v1.34.2  Failed  delivered: RELEASE/ip_vs.ko, if the node has it

      Findings
        n1: Fail: ModuleHolders: ip_vs is in use by xt_ipvs.
        What to do: docs/reference.md#checks-of-nodes

      0 passed, 1 failed, 0 not reported, 0 skipped
      "
    `);
  });
});
