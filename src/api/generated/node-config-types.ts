// SPDX-License-Identifier: Apache-2.0
// Written by "npm run generate" from crds/ and src/api/schema.ts.

/**
 * What the agent makes of one machine in standalone mode.
 */
export interface NodeConfig {
  /**
   * The version of this format.
   */
  apiVersion: 'ipvs-bpf.io/v1alpha1';
  /**
   * The kind of this object.
   */
  kind: 'NodeConfig';
  /**
   * Enabled accelerates the virtual servers. Disabled turns the switch off and leaves the module where it is; connections that run accelerated do so until they end.
   */
  mode: 'Enabled' | 'Disabled';
  /**
   * The virtual servers to accelerate: a list of them, or all.
   */
  services: {
    /**
     * true takes every virtual server that can be accelerated, also those that are added later.
     */
    all: boolean;
    /**
     * The virtual servers to accelerate, if not all.
     *
     * @maxItems 65536
     */
    virtualServers: {
      /**
       * The virtual IPv4 or IPv6 address.
       */
      address: string;
      /**
       * The virtual port, 1..65535.
       */
      port: number;
      /**
       * The transport protocol.
       */
      protocol: 'TCP' | 'UDP' | 'SCTP';
      /**
       * Overrides snat of the whole node for this virtual server; clusterCIDRs stay the same.
       */
      snat?: {
        /**
         * Always translates the source of every request, so that replies come back through the director. External leaves clients in clusterCIDRs as they are. Never leaves every client as it is; the real servers' routes to the clients must then lead through the director.
         */
        mode: 'Always' | 'External' | 'Never';
      };
    }[];
  };
  /**
   * Whose requests reach the real servers under an address of the director. In an IpvsBpfPolicy this is about cluster addresses; requests to node ports, external and load balancer addresses are always translated, and never for a Service with externalTrafficPolicy Local, as kube-proxy does it.
   */
  snat: {
    /**
     * Always translates the source of every request, so that replies come back through the director. External leaves clients in clusterCIDRs as they are. Never leaves every client as it is; the real servers' routes to the clients must then lead through the director.
     */
    mode: 'Always' | 'External' | 'Never';
    /**
     * Prefixes (RFC 4632 and RFC 4291 notation, address/length) whose clients mode External leaves untranslated. Empty in a NodeConfig: External is the same as Always. Empty in an IpvsBpfPolicy: the pod prefixes of all nodes (spec.podCIDRs).
     *
     * @maxItems 64
     */
    clusterCIDRs: string[];
  };
  /**
   * Sysctls under net.ipv4.vs that are kept at these values. An unset one is left as it is found.
   */
  ipvs: {
    /**
     * net.ipv4.vs.conn_reuse_mode, a bitmap 0..3 for a client that uses a port again while its old connection is closing. 0 keeps the old connection's real server. Bit 0 (1) schedules anew when the old connection is in TIME_WAIT. Bit 1 (2) does so in FIN_WAIT too.
     */
    connReuseMode?: number;
    /**
     * net.ipv4.vs.expire_nodest_conn, 0 or 1: with 1 a connection whose real server was removed ends with its next packet.
     */
    expireNodestConn?: number;
    /**
     * net.ipv4.vs.expire_quiescent_template, 0 or 1: with 1 persistence no longer holds clients on a real server whose weight became 0.
     */
    expireQuiescentTemplate?: number;
  };
  /**
   * The eBPF programs and maps.
   */
  datapath: {
    /**
     * The network interfaces that get the tc programs.
     */
    interfaces: {
      /**
       * Enabled takes every Ethernet-like interface that is up, is not loopback, and is not a port of a bridge or bond (the bridge or bond itself is taken).
       */
      autoDetect: 'Enabled' | 'Disabled';
      /**
       * Names of further interfaces, taken as soon as they are up; * and ? stand for any characters and for one.
       *
       * @maxItems 32
       */
      include: string[];
      /**
       * Names of interfaces to leave alone, with * and ?. Wins over include.
       *
       * @maxItems 32
       */
      exclude: string[];
    };
    /**
     * Accelerated connections that exist at one time at most, 1024..8388608. Memory is taken at once, about 250 bytes an entry. A change makes new maps: accelerated connections end.
     */
    sessionMapMaxEntries: number;
    /**
     * What happens to a new connection when no entry is left: Bypass leaves it to the native path of IPVS (netfilter and conntrack), Drop drops its packets.
     */
    onMapFull: 'Bypass' | 'Drop';
  };
  /**
   * The patched ip_vs module.
   */
  module: {
    /**
     * Absolute path of the ip_vs.ko to load. Unset means the one that was built or delivered for the running kernel.
     */
    path?: string;
    /**
     * When a node gets the module. Live exchanges the module of the running node, which ends the connections that IPVS has there. NextBoot never does: it prepares the node so that its next boot loads the module before kube-proxy starts, and whoever runs the node reboots it; until then the node goes on as it is. Reverting a node exchanges its module live in both cases, as it is asked for; so does a failure that nothing else mends.
     */
    activation: 'Live' | 'NextBoot';
  };
}
