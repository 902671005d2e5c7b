// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { readOperatorConfig } from '../../../src/operator/config.ts';

const agent = (fields: object) =>
  readOperatorConfig({
    IPVS_BPF_AGENT: JSON.stringify({ image: 'i:1', moduleHostPath: '/m', ...fields }),
  }).agent;

describe('IPVS_BPF_AGENT', () => {
  it('takes a port for metrics, and none for 0 or nothing', () => {
    expect(agent({ metricsPort: 9842 })?.metricsPort).toBe(9842);
    expect(agent({ metricsPort: 0 })).not.toHaveProperty('metricsPort');
    expect(agent({})).not.toHaveProperty('metricsPort');
  });

  it.each(['9842', 70_000, -1, 1.5])('refuses port %j with what is accepted', (metricsPort) => {
    expect(() => agent({ metricsPort })).toThrow(/metricsPort must be a whole number from 0 to 65535, not /);
  });

  it('takes a strategy for updates', () => {
    expect(agent({ updateStrategy: { type: 'OnDelete' } })?.updateStrategy).toEqual({ type: 'OnDelete' });
    expect(agent({ updateStrategy: {} })).not.toHaveProperty('updateStrategy');
  });
});
