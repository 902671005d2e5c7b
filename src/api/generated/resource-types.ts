// SPDX-License-Identifier: Apache-2.0
// Written by "npm run generate" from crds/ and src/api/schema.ts.

/**
 * Which Services run accelerated on which nodes: their packets skip nf_conntrack and iptables, IPVS schedules them and eBPF does the source NAT. kube-proxy must run in ipvs mode. Creating a policy with mode Enabled loads a kernel module on the nodes that it selects, node by node as rollout says; deleting it puts every node back to what it was.
 */
export interface IpvsBpfPolicy {
  /**
   * The version of this format.
   */
  apiVersion: 'ipvs-bpf.io/v1alpha1';
  /**
   * The kind of this object.
   */
  kind: 'IpvsBpfPolicy';
  /**
   * Name, labels and what the API server keeps of every object.
   */
  metadata: {
    /**
     * The name.
     */
    name: string;
    /**
     * Tells it from others that had the name before.
     */
    uid?: string;
    /**
     * Counts the changes of spec.
     */
    generation?: number;
    /**
     * Changes with every write.
     */
    resourceVersion?: string;
    /**
     * When it was made.
     */
    creationTimestamp?: string;
    /**
     * When its deletion was asked for.
     */
    deletionTimestamp?: string;
    /**
     * What hinders its deletion.
     */
    finalizers?: string[];
    /**
     * Labels.
     */
    labels?: {
      [k: string]: string;
    };
    /**
     * Annotations.
     */
    annotations?: {
      [k: string]: string;
    };
    [k: string]: unknown;
  };
  /**
   * What is wanted.
   */
  spec: {
    /**
     * DryRun only runs the preflight checks of the selected nodes and says which Services could run accelerated; a node that runs accelerated already goes on as it is. Enabled accelerates the Services. Disabled turns the switch off on all nodes at once and leaves the module where it is; connections that run accelerated do so until they end. Deleting the policy also takes the module away.
     */
    mode: 'DryRun' | 'Enabled' | 'Disabled';
    /**
     * Label selector of the nodes. Required, so that all nodes are only taken when {} says so. A node that is no longer selected is put back to what it was. If two policies select one node, the older policy has it, and the other says so in its condition Accepted.
     */
    nodeSelector: {
      /**
       * Labels that must be there, with these values.
       */
      matchLabels?: {
        [k: string]: string;
      };
      /**
       * Conditions on labels, all of which must hold.
       *
       * @maxItems 32
       */
      matchExpressions?: {
        /**
         * The label's key.
         */
        key: string;
        /**
         * In and NotIn compare the label's value with values; Exists and DoesNotExist only look for the key.
         */
        operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
        /**
         * Values for In and NotIn; empty for the other operators.
         *
         * @maxItems 64
         */
        values?: string[];
      }[];
    };
    /**
     * The Services to accelerate: those in include, and those that selector selects, without those in exclude. A change reaches the nodes at once and never reloads anything on them. A Service that cannot run accelerated stays on the native path, and status.rejectedServices says why.
     */
    services: {
      /**
       * Services that run accelerated, by name. One that does not exist yet is taken as soon as it does.
       *
       * @maxItems 512
       */
      include: {
        /**
         * The Service's namespace.
         */
        namespace: string;
        /**
         * The Service's name.
         */
        name: string;
        /**
         * Service ports to accelerate, by number (1..65535) or by name; unset means all of them. A number stands for the port with every protocol that the Service has it for.
         *
         * @minItems 1
         * @maxItems 16
         */
        ports?: (number | string)[];
      }[];
      /**
       * Services that run accelerated, by label, in addition to include. An empty selector {} selects every Service of the cluster. Unset selects none.
       */
      selector?: {
        /**
         * Label selector of the Services' namespaces. Unset or empty takes every namespace. A namespace has its own name as label kubernetes.io/metadata.name.
         */
        namespaceSelector?: {
          /**
           * Labels that must be there, with these values.
           */
          matchLabels?: {
            [k: string]: string;
          };
          /**
           * Conditions on labels, all of which must hold.
           *
           * @maxItems 32
           */
          matchExpressions?: {
            /**
             * The label's key.
             */
            key: string;
            /**
             * In and NotIn compare the label's value with values; Exists and DoesNotExist only look for the key.
             */
            operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
            /**
             * Values for In and NotIn; empty for the other operators.
             *
             * @maxItems 64
             */
            values?: string[];
          }[];
        };
        /**
         * Label selector of the Services themselves. Unset or empty takes every Service of the namespaces.
         */
        serviceSelector?: {
          /**
           * Labels that must be there, with these values.
           */
          matchLabels?: {
            [k: string]: string;
          };
          /**
           * Conditions on labels, all of which must hold.
           *
           * @maxItems 32
           */
          matchExpressions?: {
            /**
             * The label's key.
             */
            key: string;
            /**
             * In and NotIn compare the label's value with values; Exists and DoesNotExist only look for the key.
             */
            operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
            /**
             * Values for In and NotIn; empty for the other operators.
             *
             * @maxItems 64
             */
            values?: string[];
          }[];
        };
      };
      /**
       * Services that stay on the native path, even if they are included or selected.
       *
       * @maxItems 512
       */
      exclude: {
        /**
         * The Service's namespace.
         */
        namespace: string;
        /**
         * The Service's name.
         */
        name: string;
      }[];
      /**
       * Accelerated packets pass no netfilter rule. Respect therefore leaves a Service on the native path if a NetworkPolicy may select its pods, or if it has loadBalancerSourceRanges. Bypass accelerates it all the same: choose it only if something other than netfilter on the nodes enforces these rules, or if they need not be enforced.
       */
      filtering: 'Respect' | 'Bypass';
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
     * The patched ip_vs module. Without path and kernelMappings, the one that was built or delivered for the node's kernel.
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
      /**
       * Where the module of a kernel is. The first entry that fits a node's kernel release (uname -r) counts.
       *
       * @maxItems 64
       */
      kernelMappings: {
        /**
         * A kernel release, exactly as uname -r prints it.
         */
        literal?: string;
        /**
         * A regular expression that must fit the whole kernel release, such as 6\.1\.0-.*-amd64.
         */
        regexp?: string;
        /**
         * Absolute path of the ip_vs.ko on the node. ${KERNEL_FULL_VERSION} in it stands for the kernel release.
         */
        path?: string;
        /**
         * The image that has /lib/modules/RELEASE/ip_vs.ko, ipvs_bpf_family_id.ko and manifest.json, with a tag or a digest. ${KERNEL_FULL_VERSION} in it stands for the kernel release, with _ for characters that a tag may not have (+). A pod on the node copies them to /var/lib/ipvs-bpf/delivered, also in mode DryRun; there they stay for reboots. What a tag names is asked for once a node: give a new module a new tag or digest.
         */
        image?: string;
      }[];
      /**
       * Secrets in the operator's namespace with which the images of kernelMappings are pulled.
       *
       * @maxItems 8
       */
      imagePullSecrets: {
        /**
         * Name of the Secret.
         */
        name: string;
      }[];
      /**
       * What a node is whose kernel no entry of kernelMappings fits: Skip leaves it alone and counts it as skipped, Fail counts it as failed.
       */
      unsupportedKernel: 'Skip' | 'Fail';
    };
    /**
     * What a node does when something else changes what it set (switch, sysctls, programs, module): Correct sets it again, Report only says so in condition Drifted.
     */
    driftPolicy: 'Correct' | 'Report';
    /**
     * How nodes are changed that need a disruption: the exchange of the module or of the maps, in either direction. Changes of services, snat, ipvs, mode and interfaces disrupt nothing and reach all nodes at once.
     */
    rollout: {
      /**
       * true starts no further node. A node that has started finishes.
       */
      paused: boolean;
      /**
       * Nodes of the policy that may be unavailable at one time: being changed, not ready for minReadySeconds yet, stuck half-way, or not Ready or without a reporting agent for whatever reason. A number, 1 or more, or a percentage of the selected nodes, 1% to 100%, rounded down but at least one node. There is no value for "all at once" but 100%.
       */
      maxUnavailable: number | string;
      /**
       * The nodes that go first, alone.
       */
      canary: {
        /**
         * How many nodes go first, 0..10. With 0 the rollout starts with any node, without soaking.
         */
        nodes: number;
        /**
         * Which of the policy's nodes are preferred as canaries. If it selects too few of them, others are taken too, in the order of their names.
         */
        nodeSelector?: {
          /**
           * Labels that must be there, with these values.
           */
          matchLabels?: {
            [k: string]: string;
          };
          /**
           * Conditions on labels, all of which must hold.
           *
           * @maxItems 32
           */
          matchExpressions?: {
            /**
             * The label's key.
             */
            key: string;
            /**
             * In and NotIn compare the label's value with values; Exists and DoesNotExist only look for the key.
             */
            operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
            /**
             * Values for In and NotIn; empty for the other operators.
             *
             * @maxItems 64
             */
            values?: string[];
          }[];
        };
      };
      /**
       * Seconds, 0..86400, for which all canaries must have been ready before the other nodes start.
       */
      soakSeconds: number;
      /**
       * Seconds, 0..86400, for which a later node must have been ready before it no longer counts against maxUnavailable.
       */
      minReadySeconds: number;
      /**
       * Seconds, 30..3600, that one step on a node may take before the node rolls back.
       */
      stepTimeoutSeconds: number;
      /**
       * Seconds, 30..3600, that a node may take from its permission to start until it is ready. A node that takes longer counts as failed.
       */
      nodeTimeoutSeconds: number;
    };
    /**
     * What happens when nodes fail. A node that fails always rolls back by itself, also without the API server.
     */
    failurePolicy: {
      /**
       * Failed nodes, 0..1000, up to which the rollout goes on. With more it halts: no further node starts. Failed nodes try again when the revision changes, or when annotation ipvs-bpf.io/retry of the policy gets another value.
       */
      maxFailedNodes: number;
    };
  };
  /**
   * What the operator saw last.
   */
  status?: {
    /**
     * The metadata.generation that this status is about.
     */
    observedGeneration?: number;
    /**
     * Names what the nodes are brought to: a hash of those fields whose change disrupts (module, datapath.sessionMapMaxEntries).
     */
    targetRevision?: string;
    /**
     * Numbers of nodes.
     */
    nodes?: {
      /**
       * Nodes that nodeSelector selects and no older policy has.
       */
      selected?: number;
      /**
       * Selected nodes that do what the policy asks for.
       */
      ready?: number;
      /**
       * Selected nodes that have the target revision.
       */
      updated?: number;
      /**
       * Selected nodes that are being changed.
       */
      progressing?: number;
      /**
       * Selected nodes that wait for their turn; waitingNodes says why.
       */
      waiting?: number;
      /**
       * Selected nodes whose last attempt failed, rolled back ones included.
       */
      failed?: number;
      /**
       * Selected nodes that went back to the native path after a failure.
       */
      rolledBack?: number;
      /**
       * Selected nodes that are left alone, because of their kernel or of label ipvs-bpf.io/skip.
       */
      skipped?: number;
      /**
       * Selected nodes whose agent does not report.
       */
      unreachable?: number;
      /**
       * Nodes that are no longer selected and are being put back.
       */
      reverting?: number;
    };
    /**
     * Numbers of Services.
     */
    services?: {
      /**
       * Services that services selects or names.
       */
      selected?: number;
      /**
       * Services that are in the whitelist of the nodes; in mode DryRun, that could be.
       */
      accelerated?: number;
      /**
       * Services that stay on the native path; rejectedServices says why.
       */
      rejected?: number;
      /**
       * Addresses with port and protocol that are in the whitelist; a node port counts once.
       */
      virtualServers?: number;
      /**
       * Names the whitelist, a hash of all that is in the IpvsBpfServiceSlices.
       */
      revision?: string;
    };
    /**
     * The first 20 Services, by name, that stay on the native path as a whole or in part.
     *
     * @maxItems 20
     */
    rejectedServices?: {
      /**
       * The Service's namespace.
       */
      namespace: string;
      /**
       * The Service's name.
       */
      name: string;
      /**
       * One CamelCase word; docs/reference.md explains each.
       */
      reason: string;
      /**
       * What stays on the native path, and what to do, for people.
       */
      message?: string;
    }[];
    /**
     * The first 20 Services, by name, that run accelerated and of which something is to be known, such as what a pod sees that reaches itself through its own Service.
     *
     * @maxItems 20
     */
    serviceCaveats?: {
      /**
       * The Service's namespace.
       */
      namespace: string;
      /**
       * The Service's name.
       */
      name: string;
      /**
       * One CamelCase word; docs/reference.md explains each.
       */
      reason: string;
      /**
       * What is to be known, for people.
       */
      message?: string;
      /**
       * Since when this has been so.
       */
      since?: string;
    }[];
    /**
     * The first 20 nodes, by name, that failed, do not report, or have taken a Service off their whitelist.
     *
     * @maxItems 20
     */
    problemNodes?: {
      /**
       * The node's name.
       */
      node: string;
      /**
       * One CamelCase word; docs/reference.md explains each.
       */
      reason: string;
      /**
       * What happened, for people.
       */
      message?: string;
      /**
       * Since when this has been so.
       */
      since?: string;
    }[];
    /**
     * The first 20 nodes, by name, that wait for their turn.
     *
     * @maxItems 20
     */
    waitingNodes?: {
      /**
       * The node's name.
       */
      node: string;
      /**
       * One CamelCase word; docs/reference.md explains each.
       */
      reason: string;
      /**
       * What the node waits for, for people.
       */
      message?: string;
    }[];
    /**
     * Where the rollout of targetRevision is.
     */
    rollout?: {
      /**
       * The nodes that go first, by name. Chosen once a revision.
       *
       * @maxItems 10
       */
      canaryNodes?: string[];
      /**
       * When the canaries had been ready for long enough; unset until then.
       */
      soakedAt?: string;
    };
    /**
     * The last measured outage of a node of this policy.
     */
    lastDisruption?: {
      /**
       * The node's name.
       */
      node?: string;
      /**
       * Milliseconds without an answer, as the node's own probe saw it.
       */
      outageMilliseconds?: number;
      /**
       * When it was.
       */
      at?: string;
    };
    /**
     * Ready sums up the others. Accepted, Progressing, Degraded and ProxyModeSupported are always there.
     *
     * @maxItems 32
     */
    conditions?: {
      /**
       * The condition's name.
       */
      type: string;
      /**
       * Whether the condition holds; Unknown until it was looked at.
       */
      status: 'True' | 'False' | 'Unknown';
      /**
       * The metadata.generation that this condition is about.
       */
      observedGeneration?: number;
      /**
       * When the condition's status changed last.
       */
      lastTransitionTime: string;
      /**
       * One CamelCase word for programs. docs/reference.md explains each and says what to do.
       */
      reason: string;
      /**
       * A sentence for people.
       */
      message: string;
    }[];
  };
}

/**
 * One node that an IpvsBpfPolicy selects; its name is the node's name. The operator writes spec, the agent of that node writes status (condition AgentReachable is the operator's). Not made by hand. While the object is missing, the agent leaves the node exactly as it is.
 */
export interface IpvsBpfNode {
  /**
   * The version of this format.
   */
  apiVersion: 'ipvs-bpf.io/v1alpha1';
  /**
   * The kind of this object.
   */
  kind: 'IpvsBpfNode';
  /**
   * Name, labels and what the API server keeps of every object.
   */
  metadata: {
    /**
     * The name.
     */
    name: string;
    /**
     * Tells it from others that had the name before.
     */
    uid?: string;
    /**
     * Counts the changes of spec.
     */
    generation?: number;
    /**
     * Changes with every write.
     */
    resourceVersion?: string;
    /**
     * When it was made.
     */
    creationTimestamp?: string;
    /**
     * When its deletion was asked for.
     */
    deletionTimestamp?: string;
    /**
     * What hinders its deletion.
     */
    finalizers?: string[];
    /**
     * Labels.
     */
    labels?: {
      [k: string]: string;
    };
    /**
     * Annotations.
     */
    annotations?: {
      [k: string]: string;
    };
    [k: string]: unknown;
  };
  /**
   * What the operator asks of the node.
   */
  spec: {
    /**
     * The policy that has the node. Its whitelist are the IpvsBpfServiceSlices with label ipvs-bpf.io/policy=name.
     */
    policyRef: {
      /**
       * The policy's name.
       */
      name: string;
      /**
       * The policy's metadata.uid.
       */
      uid: string;
    };
    /**
     * Observe runs the checks and reports, and changes nothing. Apply brings the node to this spec and keeps it there. Hold leaves everything as it is and only reports. Revert puts the node back to what it was before the first change.
     */
    action: 'Observe' | 'Apply' | 'Hold' | 'Revert';
    /**
     * For action Apply: Enabled runs the accelerated path. Disabled turns the switch off and leaves the module where it is, and loads none where none is.
     */
    mode: 'Enabled' | 'Disabled';
    /**
     * Names what the node is brought to with a disruption; "native" is what it was. The node is done when status.appliedRevision is the same.
     */
    revision: string;
    /**
     * Permission to disrupt the node, that is to exchange its module or its maps. Without it the agent checks, reports DisruptionPending, and goes on with the revision that it has. To repair that revision, or to load it after a reboot, it needs no permission. With module.activation NextBoot nothing is exchanged: it permits the node to begin with the module that it has booted with.
     */
    disruptionGrant?: {
      /**
       * The revision that the permission is for.
       */
      revision: string;
      /**
       * The agent starts nothing after this time; what it has started it finishes.
       */
      expiresAt: string;
    };
    /**
     * Counts how often the node was asked to try this revision. A node that failed does not try again before the number grows.
     */
    attempt: number;
    /**
     * Limits of the agent's watchdog, which works without the API server.
     */
    timeouts: {
      /**
       * Seconds, 30..3600, that one step may take before the node rolls back.
       */
      stepSeconds: number;
      /**
       * Seconds, 30..3600, that all steps together may take before the node rolls back.
       */
      nodeSeconds: number;
    };
    /**
     * What the node does when something else changes what it set: Correct sets it again, Report only says so in condition Drifted.
     */
    driftPolicy: 'Correct' | 'Report';
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
     * The patched ip_vs module for the node's kernel.
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
      /**
       * The image from which path is delivered to the node. Unset means that the file is there, or comes by other ways.
       */
      image?: string;
    };
  };
  /**
   * What the agent of the node saw last. Written only when something changes.
   */
  status?: {
    /**
     * The metadata.generation that this status is about.
     */
    observedGeneration?: number;
    /**
     * The revision that the node has; "native" if it is as it was before the first change, "off" if it went down the ladder after a failure and holds neither a revision nor all that it was.
     */
    appliedRevision?: string;
    /**
     * The spec.attempt of the last attempt that ended, well or not.
     */
    attempt?: number;
    /**
     * The kernel's boot id; another one means that the node was booted again.
     */
    bootID?: string;
    /**
     * The running kernel, as uname -r prints it.
     */
    kernelRelease?: string;
    /**
     * PRETTY_NAME of the node's /etc/os-release.
     */
    osImage?: string;
    /**
     * The version of the agent that wrote this.
     */
    agentVersion?: string;
    /**
     * The kube-proxy of the node.
     */
    kubeProxy?: {
      /**
       * ipvs, iptables, nftables, or empty if it is not known.
       */
      mode?: string;
      /**
       * Its version, such as v1.34.2.
       */
      version?: string;
    };
    /**
     * The ip_vs that the kernel runs.
     */
    module?: {
      /**
       * InTree is the kernel's own, Patched is ours, BuiltIn is part of the kernel and cannot be exchanged.
       */
      origin?: 'InTree' | 'Patched' | 'BuiltIn' | 'Absent';
      /**
       * Identifies the build; empty if there is no module.
       */
      srcversion?: string;
      /**
       * True if the tc programs begin TCP connections by calling this module and tell it of their ends; if false, the packets that do so go through the IP stack.
       */
      kfuncs?: boolean;
      /**
       * Modules that use it.
       *
       * @maxItems 32
       */
      holders?: string[];
      /**
       * net.ipv4.vs.bpf_mode, whether the accelerated path is on.
       */
      switch?: 'On' | 'Off';
      /**
       * The patched module that spec.module asks for, as it lies on the node.
       */
      file?: {
        /**
         * Its path.
         */
        path?: string;
        /**
         * Whether it is there. Unreadable also means that it is not what the manifest.json beside it says.
         */
        state?: 'Found' | 'Missing' | 'Unreadable';
        /**
         * Identifies the build, if it could be read.
         */
        srcversion?: string;
      };
    };
    /**
     * What the node was before the first change.
     */
    baseline?: {
      /**
       * The module that ran.
       */
      srcversion?: string;
      /**
       * Virtual servers in the IPVS table.
       */
      virtualServers?: number;
      /**
       * When it was recorded.
       */
      capturedAt?: string;
      /**
       * The boot in which it was recorded.
       */
      bootID?: string;
    };
    /**
     * The tc programs, by interface and direction.
     *
     * @maxItems 64
     */
    hooks?: {
      /**
       * The interface's name.
       */
      interface: string;
      /**
       * Which packets of the interface the program sees.
       */
      direction: 'Ingress' | 'Egress';
      /**
       * How the program is attached.
       */
      kind?: 'TCX' | 'Clsact' | 'None';
      /**
       * Whether our current program is there.
       */
      attached: boolean;
    }[];
    /**
     * Accelerated connections. Written when the tenth of maxEntries changes.
     */
    sessionMap?: {
      /**
       * Connections that exist.
       */
      entries?: number;
      /**
       * Connections that can exist.
       */
      maxEntries?: number;
    };
    /**
     * Numbers of Services of the whitelist.
     */
    services?: {
      /**
       * Services all of whose virtual servers run accelerated on this node.
       */
      accelerated?: number;
      /**
       * Services of which at least one virtual server runs on the native path; rejectedServices says why.
       */
      rejected?: number;
      /**
       * Virtual servers that run accelerated.
       */
      virtualServers?: number;
      /**
       * The whitelist that the node has; the policy's status.services.revision names the newest.
       */
      revision?: string;
    };
    /**
     * The first 20 Services, by name, that run on the native path here as a whole or in part.
     *
     * @maxItems 20
     */
    rejectedServices?: {
      /**
       * The Service's namespace.
       */
      namespace: string;
      /**
       * The Service's name.
       */
      name: string;
      /**
       * One CamelCase word; docs/reference.md explains each.
       */
      reason: string;
      /**
       * Which virtual server, and what to do, for people.
       */
      message?: string;
    }[];
    /**
     * The first 20 accelerated Services, by namespace and name, that send connections to pods of this node: what a pod of them sees that reaches itself through its own Service, by IPv4 and by IPv6. Empty while the node does not accelerate. Pods for whose interface there is no address of the pod's family on the node are left out.
     *
     * @maxItems 40
     */
    selfAccess?: {
      /**
       * The Service's namespace.
       */
      namespace: string;
      /**
       * The Service's name.
       */
      name: string;
      /**
       * One CamelCase word; docs/reference.md explains each.
       */
      reason: string;
      /**
       * The source address that the pod sees.
       */
      sourceAddress?: string;
      /**
       * Since when it has worked like this.
       */
      since?: string;
    }[];
    /**
     * The sysctls under net.ipv4.vs that spec.ipvs sets.
     *
     * @maxItems 32
     */
    sysctls?: {
      /**
       * Its name, such as conn_reuse_mode.
       */
      name: string;
      /**
       * The value that spec asks for.
       */
      desired?: number;
      /**
       * The value that it has; unset if the kernel has no such sysctl.
       */
      actual?: number;
    }[];
    /**
     * The checks that come before any change.
     *
     * @maxItems 32
     */
    preflight?: {
      /**
       * The check's name.
       */
      check: string;
      /**
       * Warn does not hinder the rollout, Fail does.
       */
      result: 'Pass' | 'Warn' | 'Fail';
      /**
       * What was found, and what to do.
       */
      message?: string;
    }[];
    /**
     * What the agent is doing; unset when it is idle.
     */
    step?: {
      /**
       * The step's name.
       */
      name?: string;
      /**
       * The spec.attempt that it belongs to.
       */
      attempt?: number;
      /**
       * When it began.
       */
      startedAt?: string;
    };
    /**
     * The last attempt that failed; stays until one succeeds, with rung ServiceOff while a Service is off.
     */
    lastFailure?: {
      /**
       * The step that failed.
       */
      step?: string;
      /**
       * The revision that was being applied.
       */
      revision?: string;
      /**
       * One CamelCase word; docs/reference.md explains each.
       */
      reason?: string;
      /**
       * What happened, and what to do.
       */
      message?: string;
      /**
       * When it was.
       */
      at?: string;
      /**
       * What became of the steps before it.
       */
      rollback?: 'Succeeded' | 'Failed' | 'NotNeeded';
      /**
       * How far down the node went until its probe passed: Services off that do not work accelerated (everything else does, and the node is Ready), switch off, programs off, or the kernel's own module back.
       */
      rung?: 'ServiceOff' | 'SwitchOff' | 'ProgramsOff' | 'ModuleRestored';
    };
    /**
     * The last exchange of the module, as the node's own probe saw it.
     */
    lastDisruption?: {
      /**
       * Milliseconds without an answer: the longest time between two answers to the node's own probe, which asks every 10 ms. Without a probe, the time from the flush of the IPVS table until it was back.
       */
      outageMilliseconds?: number;
      /**
       * What outageMilliseconds comes from.
       */
      measuredBy?: 'Probe' | 'Timestamps';
      /**
       * Probes without an answer; unset if measuredBy is Timestamps.
       */
      probesLost?: number;
      /**
       * Why there was no probe, if measuredBy is Timestamps, and why connections were lost.
       */
      message?: string;
      /**
       * IPVS connections that were not there any more after the exchange.
       */
      connectionsDropped?: number;
      /**
       * The revision that it was made for.
       */
      revision?: string;
      /**
       * When it was.
       */
      at?: string;
    };
    /**
     * Ready sums up the others. All of them are always there. AgentReachable is the operator's.
     *
     * @maxItems 32
     */
    conditions?: {
      /**
       * The condition's name.
       */
      type: string;
      /**
       * Whether the condition holds; Unknown until it was looked at.
       */
      status: 'True' | 'False' | 'Unknown';
      /**
       * The metadata.generation that this condition is about.
       */
      observedGeneration?: number;
      /**
       * When the condition's status changed last.
       */
      lastTransitionTime: string;
      /**
       * One CamelCase word for programs. docs/reference.md explains each and says what to do.
       */
      reason: string;
      /**
       * A sentence for people.
       */
      message: string;
    }[];
  };
}

/**
 * A part of the whitelist of an IpvsBpfPolicy, at most 100 Services, the same for all of its nodes. The operator writes it, the agents read all with label ipvs-bpf.io/policy=NAME. A Service is in one part only. Not made by hand.
 */
export interface IpvsBpfServiceSlice {
  /**
   * The version of this format.
   */
  apiVersion: 'ipvs-bpf.io/v1alpha1';
  /**
   * The kind of this object.
   */
  kind: 'IpvsBpfServiceSlice';
  /**
   * Name, labels and what the API server keeps of every object.
   */
  metadata: {
    /**
     * The name.
     */
    name: string;
    /**
     * Tells it from others that had the name before.
     */
    uid?: string;
    /**
     * Counts the changes of spec.
     */
    generation?: number;
    /**
     * Changes with every write.
     */
    resourceVersion?: string;
    /**
     * When it was made.
     */
    creationTimestamp?: string;
    /**
     * When its deletion was asked for.
     */
    deletionTimestamp?: string;
    /**
     * What hinders its deletion.
     */
    finalizers?: string[];
    /**
     * Labels.
     */
    labels?: {
      [k: string]: string;
    };
    /**
     * Annotations.
     */
    annotations?: {
      [k: string]: string;
    };
    [k: string]: unknown;
  };
  /**
   * The Services of this part.
   */
  spec: {
    /**
     * The policy that the whitelist belongs to.
     */
    policyRef: {
      /**
       * The policy's name.
       */
      name: string;
      /**
       * The policy's metadata.uid.
       */
      uid: string;
    };
    /**
     * Services with what the nodes accelerate of them.
     *
     * @maxItems 100
     */
    services: {
      /**
       * The Service's namespace.
       */
      namespace: string;
      /**
       * The Service's name.
       */
      name: string;
      /**
       * Addresses with ports; each address with each port is a virtual server.
       *
       * @maxItems 8
       */
      virtualServers: {
        /**
         * Cluster, external and load balancer addresses of the Service, IPv4 and IPv6.
         *
         * @minItems 1
         * @maxItems 64
         */
        addresses: string[];
        /**
         * The Service's ports.
         *
         * @minItems 1
         * @maxItems 1000
         */
        ports: {
          /**
           * The virtual port, 1..65535.
           */
          port: number;
          /**
           * The transport protocol.
           */
          protocol: 'TCP' | 'UDP' | 'SCTP';
        }[];
        /**
         * Whose requests are translated; see IpvsBpfPolicy.spec.snat.mode.
         */
        snatMode: 'Always' | 'External' | 'Never';
      }[];
      /**
       * Ports on the node's own addresses, each with every address of the node at which IPVS has it but for IPv6 link-local ones.
       *
       * @maxItems 1000
       */
      nodePorts: {
        /**
         * The node port, 1..65535.
         */
        port: number;
        /**
         * The transport protocol.
         */
        protocol: 'TCP' | 'UDP' | 'SCTP';
        /**
         * Whose requests are translated; see IpvsBpfPolicy.spec.snat.mode.
         */
        snatMode: 'Always' | 'External' | 'Never';
      }[];
    }[];
  };
}
