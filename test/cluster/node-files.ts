// SPDX-License-Identifier: Apache-2.0
/** What a node's programs read; pure text. */
import { type IpFamilies, ofFamilies } from './ip-families.ts';
import { addresses, addresses6, type NodeIdentity } from './layout.ts';
import { pauseImage } from './versions.ts';

/** @param servers root of the unpacked containerd, crun and CNI plugins */
export function containerdConfig(servers: string): string {
  const cri = 'plugins."io.containerd.grpc.v1.cri"';
  return `version = 2
[${cri}]
  sandbox_image = "${pauseImage}"
  [${cri}.containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "crun"
  [${cri}.containerd.runtimes.crun]
    runtime_type = "io.containerd.runc.v2"
  [${cri}.containerd.runtimes.crun.options]
    BinaryName = "${servers}/usr/bin/crun"
    SystemdCgroup = false
  [${cri}.cni]
    bin_dir = "${servers}/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
`;
}

/** Pods on one bridge of the node, each able to reach itself by way of a Service. */
export function cniConfig(node: NodeIdentity, families: IpFamilies): string {
  return json({
    cniVersion: '0.4.0',
    name: 'pods',
    plugins: [
      {
        type: 'bridge',
        bridge: 'cni0',
        isGateway: true,
        hairpinMode: true,
        ipam: {
          type: 'host-local',
          ranges: ofFamilies(families, node.podRange, node.podRange6).map((subnet) => [{ subnet }]),
          routes: ofFamilies(families, '0.0.0.0/0', '::/0').map((dst) => ({ dst })),
        },
      },
      { type: 'portmap', capabilities: { portMappings: true } },
    ],
  });
}

export function kubeletConfig(families: IpFamilies): string {
  return json({
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: '/run/vm/ca.crt' },
    },
    authorization: { mode: 'Webhook' },
    cgroupDriver: 'cgroupfs',
    containerRuntimeEndpoint: 'unix:///run/containerd/containerd.sock',
    clusterDNS: ofFamilies(families, addresses.dnsService, addresses6.dnsService),
    clusterDomain: 'cluster.local',
    resolvConf: '/run/vm/resolv.conf',
    failSwapOn: false,
    // the disks are the memory of a small machine
    imageGCHighThresholdPercent: 100,
    evictionHard: { 'memory.available': '50Mi', 'nodefs.available': '1%', 'imagefs.available': '1%' },
  });
}

/** Pairs of pod range and node address, of all other nodes that a cluster can have. */
export function podRoutes(node: NodeIdentity, all: readonly NodeIdentity[], families: IpFamilies): string {
  return all
    .filter(({ index }) => index !== node.index)
    .flatMap(({ podRange, address, podRange6, address6 }) =>
      ofFamilies(families, `${podRange} ${address}`, `${podRange6} ${address6}`),
    )
    .join(' ');
}

function json(value: object): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}
