// SPDX-License-Identifier: Apache-2.0
/** Builders that show only what a test is about. */
import type { NodeConfig } from '../../src/api/generated/node-config-types.ts';
import { parseNodeConfig } from '../../src/core/node-config.ts';
import type { RealServer, VirtualServer } from '../../src/ports.ts';

export function realServer(address: string, change: Partial<RealServer> = {}): RealServer {
  return {
    family: 'IPv4',
    address,
    port: 8080,
    forwardingMethod: 0,
    weight: 1,
    upperThreshold: 0,
    lowerThreshold: 0,
    ...change,
  };
}

export function virtualServer(address: string, change: Partial<VirtualServer> = {}): VirtualServer {
  return {
    family: 'IPv4',
    protocol: 'TCP',
    address,
    port: 80,
    scheduler: 'rr',
    flags: 2,
    timeoutSeconds: 0,
    netmask: 0xffffffff,
    realServers: [realServer('10.0.0.1'), realServer('10.0.0.2')],
    ...change,
  };
}

/** The same of IPv6, with real servers of IPv6. */
export function virtualServer6(address: string, change: Partial<VirtualServer> = {}): VirtualServer {
  const realServers = ['fd00:10::1', 'fd00:10::2'].map((real) => realServer(real, { family: 'IPv6' }));
  return virtualServer(address, { family: 'IPv6', netmask: 128, realServers, ...change });
}

/** A valid config; throws with the problems if it is none. */
export function nodeConfig(change: Readonly<Record<string, unknown>> = {}): NodeConfig {
  const parsed = parseNodeConfig({
    apiVersion: 'ipvs-bpf.io/v1alpha1',
    kind: 'NodeConfig',
    mode: 'Enabled',
    services: { virtualServers: [{ address: '198.51.100.10', port: 80, protocol: 'TCP' }] },
    ...change,
  });
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  return parsed.config;
}
