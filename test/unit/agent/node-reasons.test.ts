// SPDX-License-Identifier: Apache-2.0
/** Every reason that an agent gives comes out of a machine, an IpvsBpfNode and a whitelist that it fits. */
import { describe, expect, it } from 'vitest';
import { HOST_ERROR_CODES } from '../../../src/core/errors.ts';
import {
  FAILURE_REASONS,
  type FailureReason,
  NODE_CONDITIONS,
  type NodeConditionType,
  type NodeReason,
} from '../../../src/core/reasons.ts';
import { realServer, virtualServer, virtualServer6 } from '../builders.ts';
import { casesOf, conditionCases, NODE_REJECTIONS, type NodeRejection } from '../cases.ts';
import { ClusterNode, LATER, SERVICE, VS } from './cluster-node.ts';
import { VIP } from './one-node.ts';

/** Lets the world do what is to be told. */
type Case = (world: ClusterNode) => Promise<void>;

/** A machine with something about it; then the node is applied. */
const with_ =
  (change: (world: ClusterNode) => void): Case =>
  async (world) => {
    world.serve();
    world.put();
    change(world);
    await world.look(2);
  };

/** A node that runs accelerated, and then something happens. */
const then =
  (change: (world: ClusterNode) => void): Case =>
  async (world) => {
    world.serve();
    world.put();
    await world.look(2);
    change(world);
    await world.look(2);
  };

const applied: Case = with_(() => {});
const atNextBoot = with_((world) => world.put({ module: { activation: 'NextBoot' } }));
const observed: Case = with_((world) => world.put({ action: 'Observe' }));
/** Nothing is loaded, and nothing is asked for. */
const bare =
  (change: (world: ClusterNode) => void = () => {}): Case =>
  async (world) => {
    change(world);
    world.put({ action: 'Observe' });
    await world.look();
  };

const revert = (world: ClusterNode): void =>
  world.put({
    action: 'Revert',
    revision: 'native',
    disruptionGrant: { revision: 'native', expiresAt: LATER },
  });

function withoutLinks({ machine }: ClusterNode): void {
  for (const name of ['eth0', 'eth1']) machine.links.change(name, { up: false });
}

function foreignProgram({ machine }: ClusterNode, inOurPlace: boolean): void {
  const found = { ifindex: 2, direction: 'Ingress', kind: 'Clsact', priority: 49, name: 'other' } as const;
  machine.datapath.foreign = [inOurPlace ? { ...found, inOurPlace } : found];
}

function moduleFile({ machine }: ClusterNode, change: { readonly vermagic: string }): void {
  const file = machine.modules.files.get(machine.patchedModule);
  if (file !== undefined) machine.modules.files.set(machine.patchedModule, { ...file, ...change });
}

/** Somebody's insmod comes between the removal of the kernel's module and ours. */
function racing({ machine: { modules } }: ClusterNode): void {
  const inTree = modules.tree.get('ip_vs');
  let left = 1;
  modules.onChange.push((file, loaded) => {
    if (file.name !== 'ip_vs' || loaded || inTree === undefined || left === 0) return;
    left -= 1;
    modules.insert(inTree);
  });
}

/** The node was armed in the boot before, and this boot has loaded the kernel's own module. */
function fallBack(world: ClusterNode): void {
  const { boot, host, modules, patchedModule: file } = world.machine;
  const srcversion = modules.files.get(file)?.srcversion ?? '';
  void boot.arm({ file, srcversion, kernelRelease: modules.kernelRelease, bootId: 'the boot before' });
  boot.boot(host.boot, 'InsertFailed');
  world.put({ module: { activation: 'NextBoot' } });
}

/** Another build of the module lies at the path now, and that is not by our doing. */
const replaced = ({ machine }: ClusterNode): void => {
  const file = machine.modules.files.get(machine.patchedModule);
  if (file === undefined) return;
  machine.modules.files.set(machine.patchedModule, { ...file, srcversion: 'OTHER' });
};

/** What the agent does about a kube-proxy that has started anew says so. */
/** Another kube-proxy, which writes what it writes at its start. */
const proxyRestarted = then(({ machine }) => {
  machine.kubeProxy.end(4711);
  machine.kubeProxy.start(4712);
  machine.host.control(`${VS}/expire_nodest_conn`, '0');
});

type AgentCondition = Exclude<NodeConditionType, 'AgentReachable' | 'ModuleDelivered'>;
const { AgentReachable: _, ModuleDelivered: __, ...AGENT_CONDITIONS } = NODE_CONDITIONS;

const CONDITIONS: { readonly [T in AgentCondition]: Readonly<Record<NodeReason<T>, Case>> } = {
  Ready: {
    Accelerating: applied,
    DryRunPassed: observed,
    DisabledAsRequested: then((world) => world.put({ mode: 'Disabled' })),
    InTreeAsRequested: then(revert),
    Applying: applied,
    Reverting: then(revert),
    WaitingForBoot: atNextBoot,
    Waiting: with_((world) => world.put({ disruptionGrant: { revision: 'r0', expiresAt: LATER } })),
    Failed: then((world) => {
      world.fail('modules.remove ip_vs', 'ModuleInUse');
      revert(world);
    }),
    RolledBack: with_((world) => world.fail('modules.insertFile', 'SystemError', 1)),
    NotAccelerating: with_(({ machine }) => {
      machine.host.btf = false;
    }),
    Reconciling: applied,
    LookFailed: async (world) => {
      await applied(world);
      world.fail('links.list');
      for (let i = 0; i < 2; i += 1) await world.look().catch(() => {});
    },
  },
  PreflightPassed: {
    AllChecksPassed: applied,
    PassedWithWarnings: with_((world) => foreignProgram(world, false)),
    KernelNotMapped: with_(({ machine }) => machine.modules.files.clear()),
    ModuleNotDelivered: with_((world) =>
      world.put({
        module: {
          activation: 'Live' as const,
          path: '/var/lib/ipvs-bpf/delivered/x/y/ip_vs.ko',
          image: 'r/ip-vs:1',
        },
      }),
    ),
    ModuleUnreadable: with_((world) => world.fail('modules.info', 'ModuleInvalid')),
    ModuleBuiltIn: async (world) => {
      world.machine.modules.builtIn.add('ip_vs');
      world.put();
      await world.look();
    },
    ModuleInUse: with_(({ machine: { modules } }) =>
      modules.insert({ name: 'xt_ipvs', srcversion: 'X', vermagic: 'X', depends: ['ip_vs'] }),
    ),
    VermagicMismatch: with_((world) => moduleFile(world, { vermagic: '5.10.0 SMP' })),
    SignatureRequired: with_(({ machine }) => {
      machine.host.signaturesRequired = true;
    }),
    ProxyModeNotIpvs: with_(({ machine }) => {
      machine.kubeProxy.proxyMode = 'nftables';
    }),
    SyncDaemonRunning: with_(({ machine }) =>
      machine.ipvs.runningDaemons.push({ state: 'master', interface: 'eth0', syncId: 1 }),
    ),
    ForeignNetnsUsesIpvs: with_(({ machine }) => machine.host.otherNamespaces.push('4712 (x)')),
    TcHookConflict: with_((world) => foreignProgram(world, true)),
    NoInterfaces: with_(withoutLinks),
    NoSnatPorts: with_(({ machine }) => machine.host.control('net/ipv4/ip_local_port_range', '1024\t65535')),
    ForwardingOff: with_(({ machine }) => machine.host.control('net/ipv4/ip_forward', '0')),
    MissingBpfFeature: with_(({ machine }) => {
      machine.host.btf = false;
    }),
    NextBootNotSupported: with_((world) => {
      world.machine.boot.missing = ['there is no program modprobe'];
      world.put({ module: { activation: 'NextBoot' } });
    }),
    NotPermitted: with_(({ machine }) => {
      machine.host.missing = ['CAP_SYS_MODULE'];
    }),
    Reconciling: applied,
  },
  ModulePatched: {
    Loaded: applied,
    InTree: observed,
    BuiltIn: bare(({ machine }) => machine.modules.builtIn.add('ip_vs')),
    Absent: bare(),
    InsertFailed: with_((world) => world.fail('modules.insertFile', 'SystemError', 1)),
    ModuleInUse: with_((world) => world.fail('modules.remove ip_vs', 'ModuleInUse')),
    AutoloadRaced: with_(racing),
    Reconciling: applied,
  },
  DatapathAttached: {
    AllHooksAttached: applied,
    NotRequested: observed,
    InterfaceMissing: with_(withoutLinks),
    HookMissing: then(({ machine }) => machine.datapath.strip(2)),
    VerifierRejected: with_((world) => world.fail('datapath.load', 'VerifierRejected')),
    SwitchOff: with_((world) => world.fail('selfCheck.run')),
    Reconciling: applied,
  },
  SysctlsApplied: {
    InSync: applied,
    Preserved: with_((world) => world.put({ ipvs: {} })),
    Overwritten: then(({ machine }) => machine.host.control(`${VS}/expire_nodest_conn`, '0')),
    WriteFailed: with_((world) => world.fail(`host.writeSysctl ${VS}/expire_nodest_conn=1`)),
    NotRequested: observed,
    Reconciling: applied,
  },
  Validated: {
    ProbesPassed: applied,
    ProbeFailed: with_((world) => world.fail('selfCheck.run')),
    ProbeTimeout: with_((world) => world.fail('selfCheck.run', 'CommandTimedOut')),
    NotRun: observed,
  },
  DisruptionPending: {
    WaitingForGrant: with_((world) => world.put({ disruptionGrant: { revision: 'r0', expiresAt: LATER } })),
    WaitingForBoot: atNextBoot,
    GrantExpired: with_((world) =>
      world.put({ disruptionGrant: { revision: 'r1', expiresAt: '2026-01-02T03:00:00Z' } }),
    ),
    NoDisruptionNeeded: applied,
    InProgress: applied,
    Reconciling: applied,
  },
  Drifted: {
    ModuleReplaced: then(replaced),
    HookMissing: then(({ machine }) => machine.datapath.strip(2)),
    SysctlChanged: then(({ machine }) => machine.host.control(`${VS}/expire_nodest_conn`, '0')),
    SwitchChanged: then(({ machine }) => machine.host.control(`${VS}/bpf_mode`, '0')),
    KubeProxyRestarted: proxyRestarted,
    MapChanged: then(({ machine }) => {
      machine.datapath.objectHash = 'b'.repeat(64);
    }),
    InSync: applied,
    Reconciling: applied,
  },
};

const REJECTIONS: Readonly<Record<NodeRejection, Case>> = {
  NoSuchVirtualServer: then(({ machine }) => machine.ipvs.unseed(virtualServer(VIP))),
  IPv6ForwardingOff: async (world) => {
    world.serve();
    const address = 'fd00:96::a';
    world.machine.ipvs.seed(virtualServer6(address));
    world.machine.host.control('net/ipv6/conf/all/forwarding', '0');
    const ports = [{ port: 80, protocol: 'TCP' as const }];
    const virtualServers = [{ addresses: [VIP, address], ports, snatMode: 'External' as const }];
    world.list({ ...SERVICE, virtualServers });
    world.put();
    await world.look(2);
  },
  UnsupportedVirtualServer: async (world) => {
    world.serve({ realServers: [realServer('10.0.0.1', { forwardingMethod: 2 })] });
    world.put();
    await world.look(2);
  },
  ProbeFailed: with_((world) => world.fail('datapath.putService', 'SystemError', 1)),
  NodeNotAccelerating: observed,
};

/** A step that fails with each of the errors that a host can give, and with one that is none of them. */
const FAILURES = FAILURE_REASONS.map((reason): readonly [FailureReason, (world: ClusterNode) => void] => {
  const code = HOST_ERROR_CODES.find((each) => each === reason);
  if (code !== undefined) return [reason, (world) => world.fail('datapath.load', code)];
  if (reason === 'ProbeFailed') return [reason, (world) => world.fail('selfCheck.run')];
  if (reason === 'ProbeTimeout') return [reason, (world) => world.fail('selfCheck.run', 'CommandTimedOut')];
  if (reason === 'BootFellBack') return [reason, fallBack];
  return [reason, ({ machine }) => machine.calls.fail('datapath.load', new TypeError('a mistake'))];
});

describe('an agent says', () => {
  it.each(FAILURES)('why its last attempt failed: %s', async (reason, fail) => {
    const world = new ClusterNode();
    world.serve();
    world.put();
    fail(world);
    await world.look(2);
    expect(world.status.lastFailure).toMatchObject({ reason, revision: 'r1', rollback: 'Succeeded' });
  });

  it.each(conditionCases(AGENT_CONDITIONS, CONDITIONS))('%s', async (text, happen) => {
    const world = new ClusterNode();
    await happen(world);
    expect([...world.told]).toContain(text);
  });

  it.each(casesOf(NODE_REJECTIONS, REJECTIONS))('why a Service stays native: %s', async (reason, happen) => {
    const world = new ClusterNode();
    await happen(world);
    expect([...world.told]).toContain(`rejectedServices ${reason}`);
  });

  it('everything when it first sees the object, also if it then cannot look', async () => {
    const world = new ClusterNode();
    world.put();
    world.fail('modules.list');
    await expect(world.look()).rejects.toThrow('it does not work');
    expect(world.status.observedGeneration).toBeUndefined();
    expect(world.conditions.map(({ type, status, reason }) => `${type} ${status} ${reason}`)).toEqual([
      'Ready Unknown Reconciling',
      'PreflightPassed Unknown Reconciling',
      'ModulePatched Unknown Reconciling',
      'DatapathAttached Unknown Reconciling',
      'SysctlsApplied Unknown Reconciling',
      'Validated Unknown NotRun',
      'DisruptionPending Unknown Reconciling',
      'Drifted Unknown Reconciling',
    ]);
  });

  it('when a status changed, and nothing else moves that time', async () => {
    const world = new ClusterNode();
    await applied(world);
    const times = () =>
      Object.fromEntries(world.conditions.map(({ type, lastTransitionTime }) => [type, lastTransitionTime]));
    const before = times();
    await world.node.ports.clock.sleep(5_000);
    world.machine.host.control(`${VS}/expire_nodest_conn`, '0');
    await world.look();
    const after = times();
    const changed = Object.keys(after).filter((type) => after[type] !== before[type]);
    expect(changed.sort()).toEqual(['Drifted', 'Ready', 'SysctlsApplied']);
  });
});
