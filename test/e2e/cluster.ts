// SPDX-License-Identifier: Apache-2.0
/** The cluster of the end-to-end tests, with the application on it; gone when they end. */
import type { TestProject } from 'vitest/node';
import { objectListing } from '../cluster/object-listing.ts';
import { moduleImage } from '../cluster/own-image.ts';
import { ClusterSession } from '../cluster/session.ts';
import { nodeListing, startShop } from '../cluster/shop-session.ts';
import { CLUSTER, IP_FAMILIES, NODES } from './settings.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** By node, what a policy may change of it, before the chart was installed. */
    readonly nativeListings: Readonly<Record<string, string>>;
    /** Objects of the API server then. */
    readonly objectsBefore: readonly string[];
  }
}

export async function setup(project: TestProject): Promise<void> {
  // A run that was killed may have left one behind.
  await ClusterSession.attach(CLUSTER).down();
  const modules = [await moduleImage('6.1'), await moduleImage('6.1', 'Newer'), await moduleImage('6.12')];
  const images = modules.map(({ archive }) => archive);
  await ClusterSession.start({
    name: CLUSTER,
    nodes: NODES.length,
    ipFamilies: IP_FAMILIES,
    images,
    beforeChart: async (session) => {
      await startShop(session, NODES);
      const listings: Record<string, string> = {};
      for (const node of NODES) listings[node] = await nodeListing(session, node);
      project.provide('nativeListings', listings);
      project.provide('objectsBefore', await objectListing(session));
    },
  });
}

export function teardown(): Promise<void> {
  return ClusterSession.attach(CLUSTER).down();
}
