// SPDX-License-Identifier: Apache-2.0
/** The kinds of objects that this product reads or writes. */
import type { ResourceType } from './kube-object.ts';

export const API_GROUP = 'ipvs-bpf.io';
export const API_VERSION = 'v1alpha1';

const resource = (group: string, version: string, plural: string, kind: string): ResourceType => ({
  group,
  version,
  plural,
  kind,
  namespaced: true,
});

const clusterResource = (group: string, version: string, plural: string, kind: string): ResourceType => ({
  ...resource(group, version, plural, kind),
  namespaced: false,
});

export const POLICIES = clusterResource(API_GROUP, API_VERSION, 'ipvsbpfpolicies', 'IpvsBpfPolicy');
export const IPVS_BPF_NODES = clusterResource(API_GROUP, API_VERSION, 'ipvsbpfnodes', 'IpvsBpfNode');
export const SERVICE_SLICES = clusterResource(
  API_GROUP,
  API_VERSION,
  'ipvsbpfserviceslices',
  'IpvsBpfServiceSlice',
);
export const NODES = clusterResource('', 'v1', 'nodes', 'Node');
export const NAMESPACES = clusterResource('', 'v1', 'namespaces', 'Namespace');
export const SERVICES = resource('', 'v1', 'services', 'Service');
export const PODS = resource('', 'v1', 'pods', 'Pod');
export const CONFIG_MAPS = resource('', 'v1', 'configmaps', 'ConfigMap');
export const SERVICE_ACCOUNTS = resource('', 'v1', 'serviceaccounts', 'ServiceAccount');
export const ENDPOINT_SLICES = resource('discovery.k8s.io', 'v1', 'endpointslices', 'EndpointSlice');
export const NETWORK_POLICIES = resource('networking.k8s.io', 'v1', 'networkpolicies', 'NetworkPolicy');
export const DAEMON_SETS = resource('apps', 'v1', 'daemonsets', 'DaemonSet');
export const LEASES = resource('coordination.k8s.io', 'v1', 'leases', 'Lease');
export const EVENTS = resource('', 'v1', 'events', 'Event');
export const ROLES = resource('rbac.authorization.k8s.io', 'v1', 'roles', 'Role');
export const ROLE_BINDINGS = resource('rbac.authorization.k8s.io', 'v1', 'rolebindings', 'RoleBinding');
export const DEPLOYMENTS = resource('apps', 'v1', 'deployments', 'Deployment');
export const CLUSTER_ROLES = clusterResource(
  'rbac.authorization.k8s.io',
  'v1',
  'clusterroles',
  'ClusterRole',
);
export const CLUSTER_ROLE_BINDINGS = clusterResource(
  'rbac.authorization.k8s.io',
  'v1',
  'clusterrolebindings',
  'ClusterRoleBinding',
);
