// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path';
import { hasIpv6, type IpFamilies, ofFamilies } from './ip-families.ts';
import { addresses, addresses6 } from './layout.ts';

export interface ControlPlaneFiles {
  readonly pki: string;
  readonly tokens: string;
  readonly etcd: string;
  readonly kubeconfigOf: (user: string) => string;
}

const etcdUrl = 'http://127.0.0.1:2379';

export function etcdArgs(files: ControlPlaneFiles): string[] {
  return [
    '--name=cluster',
    `--data-dir=${files.etcd}`,
    // the data is not worth a disk's time: it is gone with the cluster
    '--unsafe-no-fsync',
    `--listen-client-urls=${etcdUrl}`,
    `--advertise-client-urls=${etcdUrl}`,
    '--listen-peer-urls=http://127.0.0.1:2380',
    '--initial-advertise-peer-urls=http://127.0.0.1:2380',
    '--initial-cluster=cluster=http://127.0.0.1:2380',
    '--logger=zap',
    '--log-level=warn',
  ];
}

export function apiServerArgs(files: ControlPlaneFiles, families: IpFamilies): string[] {
  const pki = (name: string) => join(files.pki, name);
  return [
    `--etcd-servers=${etcdUrl}`,
    // Of the first family of Services, as Service kubernetes is.
    `--advertise-address=${ofFamilies(families, addresses.controlPlane, addresses6.controlPlane)[0]}`,
    ...(hasIpv6(families) ? ['--bind-address=::'] : []),
    `--secure-port=${addresses.apiPort}`,
    `--service-cluster-ip-range=${ofFamilies(families, addresses.services, addresses6.services).join(',')}`,
    '--authorization-mode=Node,RBAC',
    '--enable-admission-plugins=NodeRestriction',
    '--allow-privileged',
    '--kubelet-preferred-address-types=InternalIP',
    `--token-auth-file=${files.tokens}`,
    `--client-ca-file=${pki('ca.crt')}`,
    `--tls-cert-file=${pki('apiserver.crt')}`,
    `--tls-private-key-file=${pki('apiserver.key')}`,
    `--kubelet-client-certificate=${pki('kubelet-client.crt')}`,
    `--kubelet-client-key=${pki('kubelet-client.key')}`,
    '--service-account-issuer=https://kubernetes.default.svc.cluster.local',
    `--service-account-key-file=${pki('sa.pub')}`,
    `--service-account-signing-key-file=${pki('sa.key')}`,
  ];
}

export function controllerManagerArgs(files: ControlPlaneFiles): string[] {
  return [
    `--kubeconfig=${files.kubeconfigOf('kube-controller-manager')}`,
    `--service-account-private-key-file=${join(files.pki, 'sa.key')}`,
    `--root-ca-file=${join(files.pki, 'ca.crt')}`,
    '--use-service-account-credentials',
    '--leader-elect=false',
    // An emulated node takes more than a minute to say again that it is there, once the API server was away.
    '--node-monitor-grace-period=5m',
    '--bind-address=127.0.0.1',
  ];
}

export function schedulerArgs(files: ControlPlaneFiles): string[] {
  return [
    `--kubeconfig=${files.kubeconfigOf('kube-scheduler')}`,
    '--leader-elect=false',
    '--bind-address=127.0.0.1',
  ];
}

/** Answers for the Services of the cluster, on the control plane's own address. */
export function corefile(files: Pick<ControlPlaneFiles, 'kubeconfigOf'>, families: IpFamilies): string {
  // Nodes ask by IPv4 in every cluster.
  const own = [addresses.controlPlane, ...(hasIpv6(families) ? [addresses6.controlPlane] : [])];
  return `.:53 {
  bind ${own.join(' ')}
  errors
  ready 127.0.0.1:8181
  kubernetes cluster.local in-addr.arpa ip6.arpa {
    kubeconfig ${files.kubeconfigOf('coredns')}
    pods insecure
    fallthrough in-addr.arpa ip6.arpa
    ttl 30
  }
  cache 5
}
`;
}
