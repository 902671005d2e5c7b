// SPDX-License-Identifier: Apache-2.0
/** Sysctls and facts of the host, as files below a root directory. */
import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { missingCapabilities } from '../core/capabilities.ts';
import { errnoError, errnoOf, isNotFound } from '../core/errors.ts';
import type { Host } from '../ports.ts';
import { exec } from './exec.ts';
import { linkIfThere, listIfThere, readIfThere } from './proc.ts';

/** Lines of /proc/net/ip_vs before the first virtual server. */
const IP_VS_HEADER_LINES = 3;

interface MountedNamespace {
  /** "net:[4026532201]" */
  readonly namespace: string;
  readonly path: string;
}

export interface HostDirectories {
  /** Of all paths below; default `/`. */
  readonly root?: string;
  /** A writable /proc/sys, or a directory with the parts of it that are written: a container's own is read-only. */
  readonly sysctls?: string | undefined;
  /** The machine's root directory as a container has it: what is mounted below its /sys is in no other. */
  readonly hostRoot?: string | undefined;
}

export class FileHost implements Host {
  readonly #root: string;
  readonly #sysctls: string;
  readonly #hostRoot: string;

  constructor(directories: HostDirectories = {}) {
    const { root = '/', sysctls = join(root, 'proc/sys'), hostRoot = root } = directories;
    this.#root = root;
    this.#sysctls = sysctls;
    this.#hostRoot = hostRoot;
  }

  async readSysctl(path: string): Promise<string | undefined> {
    return textOf(join(this.#sysctls, path));
  }

  async writeSysctl(path: string, value: string): Promise<void> {
    const file = join(this.#sysctls, path);
    try {
      // Without O_CREAT: a sysctl that is not there must be an error in a temporary tree too.
      await writeFile(file, value, { flag: 'r+' });
    } catch (error) {
      throw errnoError(`write "${value}" to ${file}`, errnoOf(error) ?? 'EIO', error);
    }
  }

  async listSysctls(directory: string): Promise<readonly string[]> {
    return listIfThere(join(this.#sysctls, directory)) ?? [];
  }

  async bootId(): Promise<string> {
    const id = this.#read('proc/sys/kernel/random/boot_id');
    if (id === undefined) throw errnoError('read /proc/sys/kernel/random/boot_id', 'ENOENT');
    return id;
  }

  async hasBtf(): Promise<boolean> {
    try {
      await stat(join(this.#root, 'sys/kernel/btf/vmlinux'));
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  }

  async requiresSignedModules(): Promise<boolean> {
    if (this.#read('sys/module/module/parameters/sig_enforce') === 'Y') return true;
    // "none [integrity] confidentiality"; not there without securityfs or lockdown.
    const lockdown = textOf(join(this.#hostRoot, 'sys/kernel/security/lockdown')) ?? '';
    return /\[(integrity|confidentiality)\]/.test(lockdown);
  }

  missingPrivileges(): readonly string[] {
    const root = process.geteuid?.() === 0 ? [] : ['root'];
    const [, mask] = /^CapEff:\s*([0-9a-f]+)$/m.exec(this.#read('proc/self/status') ?? '') ?? [];
    return [...root, ...missingCapabilities(BigInt(`0x${mask ?? '0'}`))];
  }

  /**
   * A process id for each network namespace that has processes, and the path of the mount for
   * those that are only mounted (`ip netns add`, container runtimes).
   */
  async namespacesUsingIpvs(): Promise<readonly string[]> {
    if (this.#read('proc/net/ip_vs') === undefined) return [];
    const own = linkIfThere(join(this.#root, 'proc/self/ns/net'));
    const seen = new Set([own]);
    const users: string[] = [];
    for (const pid of this.#list('proc').filter((name) => /^[0-9]+$/.test(name))) {
      const namespace = linkIfThere(join(this.#root, 'proc', pid, 'ns/net'));
      if (namespace === undefined || seen.has(namespace)) continue;
      const table = this.#read(join('proc', pid, 'net/ip_vs'));
      if (table === undefined) continue; // ended meanwhile: another process may show the namespace
      seen.add(namespace);
      if (hasVirtualServers(table)) users.push(pid);
    }
    for (const mount of this.#mountedNamespaces()) {
      if (seen.has(mount.namespace)) continue;
      seen.add(mount.namespace);
      if (hasVirtualServers((await this.#tableOf(mount)) ?? '')) users.push(mount.path);
    }
    return users;
  }

  /** Undefined if the namespace has gone since it was listed, as those of pods do all the time. */
  async #tableOf(mount: MountedNamespace): Promise<string | undefined> {
    try {
      return (await exec('nsenter', [`--net=${mount.path}`, 'cat', '/proc/net/ip_vs'])).stdout;
    } catch (error) {
      const isThere = this.#mountedNamespaces().some(({ namespace }) => namespace === mount.namespace);
      if (isThere) throw error;
      return undefined;
    }
  }

  /** Lines of mountinfo: "36 35 0:4 net:[4026532201] /run/netns/a rw - nsfs nsfs rw". */
  #mountedNamespaces(): readonly MountedNamespace[] {
    const text = this.#read('proc/self/mountinfo') ?? '';
    return text.split('\n').flatMap((line) => {
      const [, , , namespace = '', path = ''] = line.split(' ');
      if (!namespace.startsWith('net:[') || !line.includes(' - nsfs ')) return [];
      return [{ namespace, path: unescapeMount(path) }];
    });
  }

  #read(path: string): string | undefined {
    return textOf(join(this.#root, path));
  }

  #list(path: string): readonly string[] {
    return listIfThere(join(this.#root, path)) ?? [];
  }
}

/** Without the newline at its end. */
function textOf(file: string): string | undefined {
  return readIfThere(file)?.replace(/\n$/, '');
}

function hasVirtualServers(table: string): boolean {
  return table.split('\n').filter((line) => line !== '').length > IP_VS_HEADER_LINES;
}

/** mountinfo has blanks and backslashes in octal ("\040"). */
function unescapeMount(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
