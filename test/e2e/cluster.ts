// SPDX-License-Identifier: Apache-2.0
/** The cluster of the end-to-end tests, with the application on it; gone when they end. */
import { ClusterSession } from '../cluster/session.ts';
import { startShop } from '../cluster/shop-session.ts';
import { CLUSTER, NODES } from './settings.ts';

export async function setup(): Promise<void> {
  // A run that was killed may have left one behind.
  await ClusterSession.attach(CLUSTER).down();
  const session = await ClusterSession.start({ name: CLUSTER, nodes: NODES.length });
  try {
    await startShop(session, NODES);
  } catch (error) {
    await session.down();
    throw error;
  }
}

export function teardown(): Promise<void> {
  return ClusterSession.attach(CLUSTER).down();
}
