// SPDX-License-Identifier: Apache-2.0
/** What `up` and `down` are made of, as data: each step, how it is undone, and what to say about it. */
import type {
  LoadOptions,
  PortRange,
  ServiceEntry,
  SnatAddress,
  SnatInterface,
  TcDirection,
} from '../datapath-ports.ts';
import type { ProcessIdentity } from '../ports.ts';
import { type Baseline, companionsSince, type SavedTable } from './facts.ts';

export type Step =
  /** Remembers what the machine was before. */
  | { readonly kind: 'recordBaseline'; readonly baseline: Baseline }
  | { readonly kind: 'forgetAll' }
  /** Keeps modprobe, also the kernel's own, from loading the in-tree ip_vs. */
  | { readonly kind: 'blockAutoload' }
  | { readonly kind: 'unblockAutoload' }
  /** Stops kube-proxy: it must not see the table while it is incomplete. */
  | { readonly kind: 'freezeProxy'; readonly processes: readonly ProcessIdentity[] }
  /** Lets kube-proxy, and whatever else was stopped, go on. */
  | { readonly kind: 'thawProxy'; readonly processes: readonly ProcessIdentity[] }
  /** The next generic netlink family gets this id. */
  | { readonly kind: 'aimFamilyId'; readonly id: number }
  /**
   * Writes the IPVS table to disk; without a table, the kernel's as it is when the step runs. `fresh`: virtual
   * servers as they are then, the rest from the table.
   */
  | { readonly kind: 'saveTable'; readonly table?: SavedTable; readonly fresh?: boolean }
  | { readonly kind: 'forgetTable' }
  /** Begins to measure how long nobody answers. `scheduler`: one that is loaded. */
  | { readonly kind: 'startOutageProbe'; readonly scheduler: string }
  | { readonly kind: 'stopOutageProbe' }
  /** Reads the file of the module that comes next: it is then in memory, and loading waits for no disk. */
  | { readonly kind: 'readModule'; readonly module: string }
  /** Has connection tracking take over what is accelerated now. Nothing takes it back: such entries end by themselves. */
  | { readonly kind: 'trackSessions' }
  /** Has tc ingress hold back what is from or for a server of the table. It ends by itself, too. */
  | { readonly kind: 'holdTraffic' }
  | { readonly kind: 'releaseTraffic' }
  /** Writes the connections to disk, and has connection tracking take over the rest of those that are accelerated. */
  | { readonly kind: 'saveConnections' }
  | { readonly kind: 'flush' }
  /** Brings back sysctls, timeouts, virtual and real servers from disk. */
  | { readonly kind: 'restoreTable' }
  /** Brings back the connections from disk, as native ones. */
  | { readonly kind: 'restoreConnections' }
  /** `familyId`: what its family has; undoing gives it back, and the module's parameters. */
  | {
      readonly kind: 'removeModule';
      readonly name: string;
      readonly familyId?: number;
      readonly parameters?: readonly string[];
    }
  /** `modprobe NAME PARAMETER…`; its family must get `familyId`. */
  | {
      readonly kind: 'loadModule';
      readonly name: string;
      readonly wasLoaded: boolean;
      readonly familyId?: number;
      readonly parameters?: readonly string[];
    }
  /** Inserts the patched ip_vs, switch off; its family must get `familyId`. */
  | {
      readonly kind: 'insertModule';
      readonly file: string;
      readonly srcversion: string;
      readonly familyId?: number;
      readonly parameters?: readonly string[];
    }
  /** Writes the files that make the next boot load this module. */
  | { readonly kind: 'armBoot'; readonly file: string; readonly srcversion: string }
  /** Takes them away. Nothing brings them back: without them a boot loads what it always did. */
  | { readonly kind: 'disarmBoot' }
  /** This boot went well, with the module that it loaded. */
  | { readonly kind: 'confirmBoot' }
  /** Removes those of these modules that nothing uses any more. */
  | { readonly kind: 'removeUnused'; readonly names: readonly string[] }
  | { readonly kind: 'loadDatapath'; readonly options: LoadOptions; readonly previous?: LoadOptions }
  /** Has programs in place that do not call the module: as long as others are, it cannot be removed. */
  | { readonly kind: 'releaseModule'; readonly options: LoadOptions }
  | { readonly kind: 'unloadDatapath' }
  | { readonly kind: 'giveMaps' }
  | { readonly kind: 'putSnatAddress'; readonly entry: SnatAddress }
  | { readonly kind: 'putSnatInterface'; readonly entry: SnatInterface; readonly previous?: SnatInterface }
  | { readonly kind: 'removeSnatInterface'; readonly entry: SnatInterface }
  | { readonly kind: 'putClusterPrefix'; readonly prefix: string }
  | { readonly kind: 'removeClusterPrefix'; readonly prefix: string }
  /** Lets packets skip tc egress of an interface, straight to its peer. */
  | { readonly kind: 'putPeerInterface'; readonly ifindex: number; readonly name: string }
  | { readonly kind: 'removePeerInterface'; readonly ifindex: number; readonly name: string }
  | {
      readonly kind: 'attach';
      readonly ifindex: number;
      readonly name: string;
      readonly direction: TcDirection;
      readonly wasAttached: boolean;
    }
  | {
      readonly kind: 'detach';
      readonly ifindex: number;
      readonly name: string;
      readonly direction: TcDirection;
    }
  /** `lastId`: the highest id that this plan gives away; it is on disk before the first of them is used. */
  | {
      readonly kind: 'putService';
      readonly entry: ServiceEntry;
      readonly previous?: ServiceEntry;
      readonly lastId?: number;
    }
  | { readonly kind: 'removeService'; readonly entry: ServiceEntry }
  /** Sets net.ipv4.vs.NAME; the value before the first time is kept for `down`. */
  | {
      readonly kind: 'writeSysctl';
      readonly name: string;
      readonly value: string;
      readonly previous?: string;
    }
  /** net.ipv4.vs.bpf_mode */
  | { readonly kind: 'setSwitch'; readonly on: boolean; readonly wasOn: boolean }
  /** Waits until no session is left, at most this long. */
  | { readonly kind: 'drain'; readonly timeoutMs: number }
  | { readonly kind: 'selfCheck' }
  | { readonly kind: 'removeSelfCheck' };

export type StepKind = Step['kind'];

/** What puts back the state before the step, whether it ran whole, in part or not at all. */
export function undoStep(step: Step): readonly Step[] {
  return undoModuleStep(step) ?? undoDatapathStep(step) ?? [];
}

function undoModuleStep(step: Step): readonly Step[] | undefined {
  switch (step.kind) {
    case 'recordBaseline':
      return [{ kind: 'removeUnused', names: companionsSince(step.baseline) }, { kind: 'forgetAll' }];
    case 'blockAutoload':
      return [{ kind: 'unblockAutoload' }];
    case 'unblockAutoload':
      return [{ kind: 'blockAutoload' }];
    case 'freezeProxy':
      return [{ kind: 'thawProxy', processes: step.processes }];
    case 'thawProxy':
      return [{ kind: 'freezeProxy', processes: step.processes }];
    case 'saveTable':
      return [{ kind: 'forgetTable' }];
    case 'forgetTable':
      return [{ kind: 'saveTable' }];
    case 'startOutageProbe':
      return [{ kind: 'stopOutageProbe' }];
    case 'holdTraffic':
      return [{ kind: 'releaseTraffic' }];
    case 'flush':
      return [{ kind: 'restoreTable' }, { kind: 'restoreConnections' }];
    case 'restoreTable':
      return [{ kind: 'flush' }];
    case 'removeModule':
      return reload(step);
    case 'loadModule':
      return step.wasLoaded ? [] : [{ kind: 'removeModule', name: step.name }];
    case 'insertModule':
      return [{ kind: 'removeModule', name: 'ip_vs' }];
    case 'armBoot':
      return [{ kind: 'disarmBoot' }];
    default:
      return undefined;
  }
}

function reload({ name, familyId, parameters }: Extract<Step, { kind: 'removeModule' }>): readonly Step[] {
  const load = {
    kind: 'loadModule',
    name,
    wasLoaded: false,
    ...(parameters === undefined ? {} : { parameters }),
  } as const;
  if (familyId === undefined) return [{ kind: 'unblockAutoload' }, load];
  return [{ kind: 'unblockAutoload' }, { kind: 'aimFamilyId', id: familyId }, { ...load, familyId }];
}

function undoDatapathStep(step: Step): readonly Step[] | undefined {
  switch (step.kind) {
    case 'loadDatapath':
      return step.previous === undefined
        ? [{ kind: 'unloadDatapath' }]
        : [{ kind: 'loadDatapath', options: step.previous }];
    case 'releaseModule':
      return [{ kind: 'loadDatapath', options: step.options }];
    case 'putSnatInterface':
      return [
        step.previous === undefined
          ? { kind: 'removeSnatInterface', entry: step.entry }
          : { ...step, entry: step.previous },
      ];
    case 'removeSnatInterface':
      return [{ kind: 'putSnatInterface', entry: step.entry }];
    case 'putClusterPrefix':
      return [{ kind: 'removeClusterPrefix', prefix: step.prefix }];
    case 'removeClusterPrefix':
      return [{ kind: 'putClusterPrefix', prefix: step.prefix }];
    case 'putPeerInterface':
      return [{ ...step, kind: 'removePeerInterface' }];
    case 'removePeerInterface':
      return [{ ...step, kind: 'putPeerInterface' }];
    case 'attach':
      return step.wasAttached ? [] : [{ ...step, kind: 'detach' }];
    case 'detach':
      return [{ ...step, kind: 'attach', wasAttached: false }];
    case 'putService':
      return [
        step.previous === undefined
          ? { kind: 'removeService', entry: step.entry }
          : { kind: 'putService', entry: step.previous },
      ];
    case 'removeService':
      return [{ kind: 'putService', entry: step.entry }];
    case 'writeSysctl':
      return step.previous === undefined
        ? []
        : [{ kind: 'writeSysctl', name: step.name, value: step.previous }];
    case 'setSwitch':
      return [{ kind: 'setSwitch', on: step.wasOn, wasOn: step.on }];
    case 'selfCheck':
      return [{ kind: 'removeSelfCheck' }];
    default:
      return undefined;
  }
}

/** The step with what it acts on, for people: "attach eth0 Ingress". */
export function describeStep(step: Step): string {
  switch (step.kind) {
    case 'removeModule':
    case 'loadModule':
      return `${step.kind} ${step.name}`;
    case 'insertModule':
    case 'armBoot':
      return `${step.kind} ${step.file}`;
    case 'freezeProxy':
    case 'thawProxy':
      return `${step.kind} ${step.processes.map(({ pid }) => pid).join(' ')}`;
    case 'aimFamilyId':
      return `aimFamilyId ${step.id}`;
    case 'attach':
    case 'detach':
      return `${step.kind} ${step.name} ${step.direction}`;
    case 'putService':
    case 'removeService':
      return `${step.kind} ${step.entry.protocol} ${step.entry.address} port ${step.entry.port}`;
    case 'putSnatAddress':
      return `putSnatAddress ${step.entry.address}`;
    case 'putSnatInterface':
    case 'removeSnatInterface':
      return `${step.kind} interface ${step.entry.ifindex}`;
    case 'putClusterPrefix':
    case 'removeClusterPrefix':
      return `${step.kind} ${step.prefix}`;
    case 'putPeerInterface':
    case 'removePeerInterface':
      return `${step.kind} ${step.name}`;
    case 'writeSysctl':
      return `writeSysctl net.ipv4.vs.${step.name}=${step.value}`;
    case 'setSwitch':
      return `setSwitch ${step.on ? 'on' : 'off'}`;
    case 'loadDatapath':
      return `loadDatapath ${step.options.sessionMapMaxEntries} sessions, ports ${step.options.constants.portRanges.map(portText).join(' ')}`;
    default:
      return step.kind;
  }
}

function portText({ first, last }: PortRange): string {
  return `${first}-${last}`;
}

const ADVICE: Partial<Record<StepKind, string>> = {
  freezeProxy: 'kube-proxy does not stop (kill -STOP); look at its state in /proc/PID/status.',
  aimFamilyId:
    'ipvs_bpf_family_id.ko is beside ip_vs.ko of the build; build it for the running kernel, or restart kube-proxy.',
  removeModule:
    'Something still uses the module: look at "lsmod | grep ip_vs" and at "ipvsadm -Ln" in every network namespace, stop it and try again.',
  insertModule:
    'The kernel log ("dmesg") says what it did not like; build the module for the running kernel.',
  loadModule: 'Check with "modprobe" by hand; the kernel image package holds this module.',
  armBoot: 'Look at /etc/modules-load.d and /etc/modprobe.d of the host: they must take files.',
  disarmBoot:
    'Remove ipvs-bpf.conf from /etc/modules-load.d and /etc/modprobe.d of the host by hand; docs/modules.md says more.',
  restoreTable:
    'The table is in saved-table.json of the state directory and is restored by the next "up" or "down".',
  releaseModule: 'The programs in place go on; the module is not exchanged before others can be loaded.',
  loadDatapath: "The error holds the verifier's words; check that the tc object was built from this version.",
  giveMaps:
    'The module and the tc object are of different versions, or the module still holds older maps: run "down", then "up".',
  attach: 'Check with "tc filter show dev NAME ingress" whether a program of somebody else is in the way.',
  setSwitch: 'The kernel log ("dmesg") says why; "status" shows whether the module has its maps.',
  selfCheck:
    'Nothing of the check is left behind. Check nftables rules on the ingress hook, and net.ipv4.conf.all.rp_filter.',
};

/** What a user can do about a step that failed. */
export function stepAdvice(kind: StepKind): string {
  return ADVICE[kind] ?? 'Run the command again; it goes on where it was.';
}
