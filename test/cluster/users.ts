// SPDX-License-Identifier: Apache-2.0
import { addresses } from './layout.ts';

/** Somebody who talks to the API server with a static token. */
export interface User {
  /** Name of the kubeconfig. */
  readonly id: string;
  readonly name: string;
  readonly groups: readonly string[];
}

export const administrator: User = { id: 'admin', name: 'admin', groups: ['system:masters'] };

/** The components of the control plane and what all nodes share. */
export const componentUsers: readonly User[] = [
  administrator,
  { id: 'kube-controller-manager', name: 'system:kube-controller-manager', groups: [] },
  { id: 'kube-scheduler', name: 'system:kube-scheduler', groups: [] },
  { id: 'kube-proxy', name: 'system:kube-proxy', groups: [] },
  { id: 'coredns', name: 'system:coredns', groups: [] },
];

/** The identity that lets a kubelet change its own node's objects and no others. */
export function kubeletUser(node: string): User {
  return { id: `kubelet-${node}`, name: `system:node:${node}`, groups: ['system:nodes'] };
}

/** A line of the API server's token file for each user. */
export function tokenFile(users: readonly User[], tokenOf: (user: User) => string): string {
  return users
    .map((user) => {
      const fields = [tokenOf(user), user.name, user.id];
      return `${[...fields, ...(user.groups.length > 0 ? [`"${user.groups.join(',')}"`] : [])].join(',')}\n`;
    })
    .join('');
}

export interface KubeconfigInput {
  readonly server: string;
  readonly caPem: string;
  readonly token: string;
}

/** A kubeconfig that needs no other file. It is JSON, which YAML readers take too. */
export function kubeconfig({ server, caPem, token }: KubeconfigInput): string {
  const name = 'ipvs-bpf';
  const document = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      { name, cluster: { server, 'certificate-authority-data': Buffer.from(caPem).toString('base64') } },
    ],
    users: [{ name, user: { token } }],
    contexts: [{ name, context: { cluster: name, user: name } }],
    'current-context': name,
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

/** Where components and nodes reach the API server. */
export const internalServer = `https://${addresses.controlPlane}:${addresses.apiPort}`;
