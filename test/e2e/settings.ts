// SPDX-License-Identifier: Apache-2.0
export const CLUSTER = 'e2e';
export const NODES = ['n1', 'n2'] as const;

/** The life of an installation, half an hour or more of it. */
export const LIFE = process.env.IPVS_BPF_TEST_LIFE !== undefined;
/** One of the two suites is on a cluster that has only IPv4. */
export const IP_FAMILIES = LIFE ? 'ipv4' : 'dual';
