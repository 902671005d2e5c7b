// SPDX-License-Identifier: Apache-2.0
// Written by "npm run generate" from crds/ and src/api/schema.ts.
export const NODE_CONFIG_SCHEMA = {
  "type": "object",
  "description": "What the agent makes of one machine in standalone mode.",
  "additionalProperties": false,
  "required": [
    "apiVersion",
    "kind",
    "mode",
    "services"
  ],
  "properties": {
    "apiVersion": {
      "type": "string",
      "enum": [
        "ipvs-bpf.io/v1alpha1"
      ],
      "description": "The version of this format."
    },
    "kind": {
      "type": "string",
      "enum": [
        "NodeConfig"
      ],
      "description": "The kind of this object."
    },
    "mode": {
      "type": "string",
      "enum": [
        "Enabled",
        "Disabled"
      ],
      "description": "Enabled accelerates the virtual servers. Disabled turns the switch off and leaves the module where it is; connections that run accelerated do so until they end."
    },
    "services": {
      "type": "object",
      "description": "The virtual servers to accelerate: a list of them, or all.",
      "additionalProperties": false,
      "properties": {
        "all": {
          "type": "boolean",
          "default": false,
          "description": "true takes every virtual server that can be accelerated, also those that are added later."
        },
        "virtualServers": {
          "type": "array",
          "maxItems": 65536,
          "default": [],
          "description": "The virtual servers to accelerate, if not all.",
          "items": {
            "type": "object",
            "additionalProperties": false,
            "required": [
              "address",
              "port",
              "protocol"
            ],
            "properties": {
              "address": {
                "type": "string",
                "description": "The virtual IPv4 or IPv6 address."
              },
              "port": {
                "type": "integer",
                "minimum": 1,
                "maximum": 65535,
                "description": "The virtual port, 1..65535."
              },
              "protocol": {
                "type": "string",
                "enum": [
                  "TCP",
                  "UDP",
                  "SCTP"
                ],
                "description": "The transport protocol."
              },
              "snat": {
                "type": "object",
                "additionalProperties": false,
                "required": [
                  "mode"
                ],
                "description": "Overrides snat of the whole node for this virtual server; clusterCIDRs stay the same.",
                "properties": {
                  "mode": {
                    "type": "string",
                    "enum": [
                      "Always",
                      "External",
                      "Never"
                    ],
                    "description": "Always translates the source of every request, so that replies come back through the director. External leaves clients in clusterCIDRs as they are. Never leaves every client as it is; the real servers' routes to the clients must then lead through the director."
                  }
                }
              }
            }
          }
        }
      }
    },
    "snat": {
      "type": "object",
      "default": {},
      "description": "Whose requests reach the real servers under an address of the director. In an IpvsBpfPolicy this is about cluster addresses; requests to node ports, external and load balancer addresses are always translated, and never for a Service with externalTrafficPolicy Local, as kube-proxy does it.",
      "properties": {
        "mode": {
          "type": "string",
          "enum": [
            "Always",
            "External",
            "Never"
          ],
          "default": "Always",
          "description": "Always translates the source of every request, so that replies come back through the director. External leaves clients in clusterCIDRs as they are. Never leaves every client as it is; the real servers' routes to the clients must then lead through the director."
        },
        "clusterCIDRs": {
          "type": "array",
          "maxItems": 64,
          "default": [],
          "description": "Prefixes (RFC 4632 and RFC 4291 notation, address/length) whose clients mode External leaves untranslated. Empty in a NodeConfig: External is the same as Always. Empty in an IpvsBpfPolicy: the pod prefixes of all nodes (spec.podCIDRs).",
          "items": {
            "type": "string",
            "maxLength": 49
          }
        }
      },
      "additionalProperties": false
    },
    "ipvs": {
      "type": "object",
      "default": {},
      "description": "Sysctls under net.ipv4.vs that are kept at these values. An unset one is left as it is found.",
      "properties": {
        "connReuseMode": {
          "type": "integer",
          "minimum": 0,
          "maximum": 3,
          "description": "net.ipv4.vs.conn_reuse_mode, a bitmap 0..3 for a client that uses a port again while its old connection is closing. 0 keeps the old connection's real server. Bit 0 (1) schedules anew when the old connection is in TIME_WAIT. Bit 1 (2) does so in FIN_WAIT too."
        },
        "expireNodestConn": {
          "type": "integer",
          "minimum": 0,
          "maximum": 1,
          "description": "net.ipv4.vs.expire_nodest_conn, 0 or 1: with 1 a connection whose real server was removed ends with its next packet."
        },
        "expireQuiescentTemplate": {
          "type": "integer",
          "minimum": 0,
          "maximum": 1,
          "description": "net.ipv4.vs.expire_quiescent_template, 0 or 1: with 1 persistence no longer holds clients on a real server whose weight became 0."
        }
      },
      "additionalProperties": false
    },
    "datapath": {
      "type": "object",
      "default": {},
      "description": "The eBPF programs and maps.",
      "properties": {
        "interfaces": {
          "type": "object",
          "default": {},
          "description": "The network interfaces that get the tc programs.",
          "properties": {
            "autoDetect": {
              "type": "string",
              "enum": [
                "Enabled",
                "Disabled"
              ],
              "default": "Enabled",
              "description": "Enabled takes every Ethernet-like interface that is up, is not loopback, and is not a port of a bridge or bond (the bridge or bond itself is taken)."
            },
            "include": {
              "type": "array",
              "maxItems": 32,
              "default": [],
              "description": "Names of further interfaces, taken as soon as they are up; * and ? stand for any characters and for one.",
              "items": {
                "type": "string",
                "minLength": 1,
                "maxLength": 15
              }
            },
            "exclude": {
              "type": "array",
              "maxItems": 32,
              "default": [],
              "description": "Names of interfaces to leave alone, with * and ?. Wins over include.",
              "items": {
                "type": "string",
                "minLength": 1,
                "maxLength": 15
              }
            }
          },
          "additionalProperties": false
        },
        "sessionMapMaxEntries": {
          "type": "integer",
          "minimum": 1024,
          "maximum": 8388608,
          "default": 262144,
          "description": "Accelerated connections that exist at one time at most, 1024..8388608. Memory is taken at once, about 250 bytes an entry. A change makes new maps: accelerated connections end."
        },
        "onMapFull": {
          "type": "string",
          "enum": [
            "Bypass",
            "Drop"
          ],
          "default": "Bypass",
          "description": "What happens to a new connection when no entry is left: Bypass leaves it to the native path of IPVS (netfilter and conntrack), Drop drops its packets."
        }
      },
      "additionalProperties": false
    },
    "module": {
      "type": "object",
      "default": {},
      "description": "The patched ip_vs module.",
      "properties": {
        "path": {
          "type": "string",
          "minLength": 1,
          "maxLength": 4096,
          "description": "Absolute path of the ip_vs.ko to load. Unset means the one that was built or delivered for the running kernel."
        },
        "activation": {
          "type": "string",
          "enum": [
            "Live",
            "NextBoot"
          ],
          "default": "Live",
          "description": "When a node gets the module. Live exchanges the module of the running node, which ends the connections that IPVS has there. NextBoot never does: it prepares the node so that its next boot loads the module before kube-proxy starts, and whoever runs the node reboots it; until then the node goes on as it is. Reverting a node exchanges its module live in both cases, as it is asked for; so does a failure that nothing else mends."
        }
      },
      "additionalProperties": false
    }
  }
};
