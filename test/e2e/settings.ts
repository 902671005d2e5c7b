// SPDX-License-Identifier: Apache-2.0
export const CLUSTER = 'e2e';
export const NODES = ['n1', 'n2'] as const;
