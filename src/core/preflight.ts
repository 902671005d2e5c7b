// SPDX-License-Identifier: Apache-2.0
/** What must hold before anything is changed. Every check is made; a failed one says what to do. */

import type { NodeConfig } from '../api/generated/node-config-types.ts';
import { fellBack, isAtNextBoot } from './boot.ts';
import { ipVs, moduleOrigin, type NodeFacts } from './facts.ts';
import { coveredLinks } from './interfaces.ts';
import { isOurDaemon } from './ipvs-sync.ts';
import { needsSwap } from './plan.ts';
import { desiredOptions, desiredSnat, needsNewMaps, usedFamilies } from './plan-datapath.ts';
import { testFamily } from './self-check-network.ts';

/** As `status.preflight[].check` and the output of `node status` have them; docs/reference.md explains each. */
export const CHECKS = [
  'Root',
  'Btf',
  'ModuleFile',
  'ModuleDelivered',
  'ModuleReadable',
  'Vermagic',
  'ModuleBuiltIn',
  'ModuleHolders',
  'SyncDaemon',
  'OtherNamespaces',
  'Forwarding',
  'Interfaces',
  'SnatPorts',
  'ForeignPrograms',
  'FamilyId',
  'ProxyMode',
  'Signature',
  'BootFiles',
  'LastBoot',
] as const;

export type CheckName = (typeof CHECKS)[number];

export interface Check {
  readonly check: CheckName;
  readonly result: 'Pass' | 'Warn' | 'Fail';
  readonly message: string;
}

type Verdict = Omit<Check, 'check'>;
const PASS: Verdict = { result: 'Pass', message: '' };

function fail(message: string): Verdict {
  return { result: 'Fail', message };
}

function warn(message: string): Verdict {
  return { result: 'Warn', message };
}

export interface PreflightOptions {
  /** True on a node of Kubernetes. */
  readonly needsKubeProxy?: boolean;
  /** The image that the module file comes from, if it does not lie on the machine by other ways. */
  readonly moduleImage?: string | undefined;
}

/** All checks for `up`; those about the module only if another one is needed, and about exchanging it if that is done. */
export function preflight(
  config: NodeConfig,
  facts: NodeFacts,
  options: PreflightOptions = {},
): readonly Check[] {
  const named = (check: CheckName, verdict: Verdict): Check => ({ check, ...verdict });
  const always = [named('Root', root(facts))];
  if (config.mode === 'Disabled') return always;
  const needsModule = needsSwap(config, facts);
  const module = needsModule
    ? [
        options.moduleImage === undefined
          ? named('ModuleFile', moduleFile(facts))
          : named('ModuleDelivered', moduleDelivered(facts, options.moduleImage)),
        named('ModuleReadable', moduleReadable(facts)),
        named('Vermagic', vermagic(facts)),
        named('Signature', signature(facts)),
        named('ModuleBuiltIn', builtIn(facts)),
      ]
    : [];
  const exchange = needsModule
    ? [
        named('ModuleHolders', holders(facts)),
        named('SyncDaemon', syncDaemon(facts)),
        named('OtherNamespaces', otherNamespaces(facts)),
        named('FamilyId', familyId(facts)),
      ]
    : [];
  const boot = [named('BootFiles', bootFiles(facts)), named('LastBoot', lastBoot(config, facts))];
  return [
    ...always,
    named('Btf', btf(facts)),
    ...module,
    ...(isAtNextBoot(config) ? boot : exchange),
    named('Forwarding', forwarding(config, facts)),
    named('Interfaces', interfaces(config, facts, options.needsKubeProxy ?? false)),
    named('SnatPorts', snatPorts(config, facts)),
    named('ForeignPrograms', foreignPrograms(config, facts)),
    ...proxyCheck(facts, options.needsKubeProxy ?? false),
  ];
}

function root(facts: NodeFacts): Verdict {
  const { missingPrivileges: missing } = facts;
  if (missing.length === 0) return PASS;
  return fail(
    `Must run as root with its capabilities: it loads a kernel module and eBPF programs. Missing: ${missing.join(', ')}.`,
  );
}

function btf(facts: NodeFacts): Verdict {
  return facts.hasBtf
    ? PASS
    : fail('The kernel has no BTF (/sys/kernel/btf/vmlinux); it must be built with CONFIG_DEBUG_INFO_BTF.');
}

function moduleFile(facts: NodeFacts): Verdict {
  const file = facts.moduleFile;
  if (file?.state === 'Found' || file?.state === 'Unreadable') return PASS;
  return fail(
    `There is no patched module for kernel ${facts.kernelRelease} at ${file?.path ?? 'any path'}` +
      `${file === undefined ? '' : ` (${file.message})`}. Build it on this machine, or set module.path.`,
  );
}

function moduleDelivered({ moduleFile: file }: NodeFacts, image: string): Verdict {
  if (file?.state === 'Found' || file?.state === 'Unreadable') return PASS;
  return fail(`The module of ${image} is not on the node yet; condition ModuleDelivered says why.`);
}

function moduleReadable({ moduleFile: file }: NodeFacts): Verdict {
  if (file?.state !== 'Unreadable') return PASS;
  return fail(`The module file cannot be read: ${file.message}. Deliver it anew, or mend ${file.path}.`);
}

function vermagic(facts: NodeFacts): Verdict {
  const file = facts.moduleFile;
  if (file?.state !== 'Found' || file.vermagic.split(' ')[0] === facts.kernelRelease) return PASS;
  return fail(
    `${file.path} is for kernel ${file.vermagic.split(' ')[0]}, but ${facts.kernelRelease} runs. Build it for this one.`,
  );
}

function signature({ moduleFile: file, requiresSignedModules }: NodeFacts): Verdict {
  if (!requiresSignedModules || file?.state !== 'Found' || file.signed) return PASS;
  return fail(
    `This kernel takes signed modules only (Secure Boot, lockdown or module.sig_enforce), and ${file.path} is not ` +
      'signed. Sign it, and ipvs_bpf_family_id.ko, with a key that the machine trusts.',
  );
}

function builtIn(facts: NodeFacts): Verdict {
  return moduleOrigin(facts) === 'BuiltIn'
    ? fail(
        'ip_vs is compiled into this kernel and cannot be exchanged; a kernel with CONFIG_IP_VS=m is needed.',
      )
    : PASS;
}

function holders(facts: NodeFacts): Verdict {
  const strangers = (ipVs(facts)?.holders ?? []).filter((name) => !name.startsWith('ip_vs_'));
  return strangers.length === 0
    ? PASS
    : fail(
        `ip_vs is in use by ${strangers.join(', ')}; remove what uses it (firewall rules that match IPVS).`,
      );
}

function syncDaemon(facts: NodeFacts): Verdict {
  const daemons = (facts.ipvs?.daemons ?? []).filter((daemon) => !isOurDaemon(daemon));
  if (daemons.length === 0) return PASS;
  const list = daemons.map(({ state, interface: name }) => `${state} on ${name}`).join(', ');
  const commands = daemons.map(({ state }) => `"ipvsadm --stop-daemon ${state}"`).join(' and ');
  return fail(`A synchronisation daemon runs (${list}) and keeps ip_vs in use; stop it with ${commands}.`);
}

function otherNamespaces(facts: NodeFacts): Verdict {
  return facts.otherNamespaces.length === 0
    ? PASS
    : fail(
        'Other network namespaces have virtual servers, which exchanging the module would remove ' +
          `(seen by: ${facts.otherNamespaces.join(', ')}). Remove them ("ipvsadm -C" there) first.`,
      );
}

/** A running kube-proxy would get errors from a module whose netlink family has another id. */
function familyId(facts: NodeFacts): Verdict {
  if (facts.canAimFamilyId || facts.ipvs === undefined || facts.kubeProxy.processes.length === 0) return PASS;
  return fail(
    'kube-proxy runs, and there is no ipvs_bpf_family_id.ko for this kernel beside ip_vs.ko of the build: ' +
      'after an exchange kube-proxy could not reach IPVS any more. Build it, or stop kube-proxy.',
  );
}

function bootFiles({ boot }: NodeFacts): Verdict {
  if (boot.missing.length === 0) return PASS;
  return fail(
    `module.activation is NextBoot, and this host cannot load the module when it boots: ${boot.missing.join(', ')}. ` +
      'It takes systemd with /etc/modules-load.d, and modprobe with /etc/modprobe.d; use module.activation Live without.',
  );
}

function lastBoot(config: NodeConfig, facts: NodeFacts): Verdict {
  const why = fellBack(config, facts);
  if (why === undefined) return PASS;
  return fail(`The boot did not load the patched module. ${why} "node down", then "node up" tries it again.`);
}

/**
 * For a director of its own a kube-proxy in another mode is no matter; on a node of Kubernetes nothing would be
 * accelerated. Without an answer it is taken for ipvs if its dummy interface is there.
 */
function proxyCheck(facts: NodeFacts, needed: boolean): readonly Check[] {
  if (!needed && facts.kubeProxy.processes.length === 0) return [];
  const verdict = proxyMode(facts);
  return [
    { check: 'ProxyMode', ...verdict, result: needed && verdict.result === 'Warn' ? 'Fail' : verdict.result },
  ];
}

function proxyMode({ kubeProxy, links }: NodeFacts): Verdict {
  const mode = kubeProxy.mode ?? (links.some(({ name }) => name === 'kube-ipvs0') ? 'ipvs' : undefined);
  if (mode === 'ipvs') return PASS;
  const found = mode === undefined ? 'kube-proxy does not say its mode, and there is no kube-ipvs0' : mode;
  return warn(`kube-proxy runs in another mode than ipvs (${found}): its Services cannot run accelerated.`);
}

/** Replies are packets from a real server to a client: the director forwards them, on the native path too. */
function forwarding(config: NodeConfig, facts: NodeFacts): Verdict {
  const onlyIpv6 = testFamily(facts.addresses) === 'IPv6';
  if (!onlyIpv6 && !facts.ipForward) {
    return fail(
      'net.ipv4.ip_forward is 0, so that no reply reaches a client. Set it ("sysctl -w net.ipv4.ip_forward=1").',
    );
  }
  if (facts.ip6Forward) return PASS;
  const off = 'net.ipv6.conf.all.forwarding is not 1, so that no reply reaches an IPv6 client';
  const set = 'Set it ("sysctl -w net.ipv6.conf.all.forwarding=1").';
  if (onlyIpv6) return fail(`${off}. ${set}`);
  const used = usedFamilies(config, facts.ipvs?.virtualServers ?? []);
  return used.has('IPv6') ? warn(`${off}: IPv6 virtual servers stay on the native path. ${set}`) : PASS;
}

/** A director may get its interfaces later; a node of Kubernetes would be disrupted for nothing. */
function interfaces(config: NodeConfig, facts: NodeFacts, needed: boolean): Verdict {
  const covered = coveredLinks(config.datapath.interfaces, facts.links);
  if (covered.length === 0) {
    const message = 'datapath.interfaces covers no interface that is up: nothing runs accelerated.';
    return needed ? fail(message) : warn(message);
  }
  const contents = needsNewMaps(config, facts) ? undefined : facts.datapath;
  const used = usedFamilies(config, facts.ipvs?.virtualServers ?? []);
  const { withoutAddress } = desiredSnat(facts, { contents, covered, used });
  // Before there are virtual servers it may be IPv4 that is missing.
  const missing = withoutAddress.filter(({ family }) =>
    family === 'IPv6' ? facts.ip6Forward : used.size === 0 || used.has('IPv4'),
  );
  if (missing.length === 0 || config.snat.mode === 'Never') return PASS;
  const families = [...Map.groupBy(missing, ({ family }) => family)].map(
    ([family, found]) => `${family} address for ${found.map(({ link }) => link.name).join(', ')}`,
  );
  return warn(
    `There is no global ${families.join(', and no global ')}, on no other interface either: requests that leave there and need SNAT are dropped and counted.`,
  );
}

function snatPorts(config: NodeConfig, facts: NodeFacts): Verdict {
  return desiredOptions(config, facts).constants.portRanges.length > 0
    ? PASS
    : fail(
        'No port is left for SNAT: net.ipv4.ip_local_port_range, the node ports 30000-32767 and ' +
          'net.ipv4.ip_local_reserved_ports take all of 1024..65535.',
      );
}

/**
 * Clsact filters of others run by priority, TCX ones in order; ours passes on what is not its own. One that has our
 * very place keeps ours away.
 */
function foreignPrograms(config: NodeConfig, facts: NodeFacts): Verdict {
  const covered = new Map(
    coveredLinks(config.datapath.interfaces, facts.links).map(({ index, name }) => [index, name]),
  );
  const found = facts.foreignPrograms.filter(({ ifindex }) => covered.has(ifindex));
  if (found.length === 0) return PASS;
  const list = (programs: typeof found): string =>
    programs
      .map(({ ifindex, direction, name }) => `${name} on ${covered.get(ifindex)} (${direction})`)
      .join(', ');
  const inOurPlace = found.filter((program) => program.inOurPlace === true);
  if (inOurPlace.length > 0) {
    return fail(
      `tc programs of others have the place of ours: ${list(inOurPlace)}. Give them another priority.`,
    );
  }
  return warn(
    `tc programs of others are attached: ${list(found)}. They stay; check that they let traffic pass.`,
  );
}
