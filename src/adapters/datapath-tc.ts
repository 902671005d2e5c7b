// SPDX-License-Identifier: Apache-2.0
/**
 * The tc programs on interfaces: as TCX links, pinned as links/IFINDEX_DIRECTION, or as cls_bpf
 * filters of a clsact qdisc. A directory qdiscs/IFINDEX says that the qdisc is ours.
 */
import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import {
  attachTc,
  attachTcx,
  BpfLink,
  type BpfProgram,
  createClsact,
  destroyClsact,
  detachTc,
  BpfProgram as Program,
  tcxProgramIds,
  tcxSupported,
  unpin,
} from 'libbpf-ts';
import { errnoOf, HostError, isNotFound } from '../core/errors.ts';
import type { ForeignProgram, TcAttachment, TcDirection } from '../datapath-ports.ts';
import { translated } from './bpf-errors.ts';
import { namesIn, PROGRAM_NAMES } from './datapath-pins.ts';
import { type TcFilterEntry, TcFilters } from './tc-filters.ts';

/** Our filter: before what others usually install (their priorities start at 49152 unless given). */
const PRIORITY = 49;
const HANDLE = 1;
const DIRECTIONS: readonly TcDirection[] = ['Ingress', 'Egress'];
const NATIVE: Readonly<Record<TcDirection, 'ingress' | 'egress'>> = { Ingress: 'ingress', Egress: 'egress' };

export type Attached = Omit<TcAttachment, 'current'>;

/** libbpf names a filter "PROGRAM:[ID]". */
function isOurs(filter: TcFilterEntry): boolean {
  const ourName = filter.name?.startsWith(PROGRAM_NAMES[filter.direction]) === true;
  return ourName && filter.priority === PRIORITY && filter.handle === HANDLE;
}

export class DatapathTc {
  readonly #root: string;
  readonly #kind: 'TCX' | 'Clsact' | undefined;
  readonly #filters = new TcFilters();

  /** `kind`: default is TCX where the kernel has it. */
  constructor(root: string, kind?: 'TCX' | 'Clsact') {
    this.#root = root;
    this.#kind = kind;
  }

  async attachments(): Promise<readonly Attached[]> {
    const filters = (await this.#filters.filters())
      .filter(isOurs)
      .map(({ ifindex, direction, programId = 0 }) => ({
        ifindex,
        direction,
        kind: 'Clsact' as const,
        programId,
      }));
    return [...this.#links(), ...filters].sort(
      (a, b) => a.ifindex - b.ifindex || (a.direction < b.direction ? 1 : -1),
    );
  }

  async foreignPrograms(): Promise<readonly ForeignProgram[]> {
    const out: ForeignProgram[] = [];
    if (this.#supportsTcx()) {
      const ours = new Set(
        this.#links().map((link) => `${link.ifindex} ${link.direction} ${link.programId}`),
      );
      for (const ifindex of await this.#filters.interfaces()) {
        for (const direction of DIRECTIONS) {
          const ids = tcxIds(ifindex, direction).filter((id) => !ours.has(`${ifindex} ${direction} ${id}`));
          out.push(...ids.map((id) => ({ ifindex, direction, kind: 'TCX' as const, name: programName(id) })));
        }
      }
    }
    for (const filter of await this.#filters.filters()) {
      if (isOurs(filter)) continue;
      const { ifindex, direction, priority, name, kind } = filter;
      const inOurPlace = this.#attachesAs() === 'Clsact' && priority === PRIORITY;
      const found = { ifindex, direction, kind: 'Clsact', priority, name: name ?? kind } as const;
      out.push(inOurPlace ? { ...found, inOurPlace } : found);
    }
    return out;
  }

  /** Puts `program` there, in place of one of ours that is there already. */
  async attach(program: BpfProgram, ifindex: number, direction: TcDirection): Promise<void> {
    if (this.#attachesAs() === 'TCX') {
      this.#attachTcx(program, ifindex, direction);
      return;
    }
    await this.#attachClsact(program, ifindex, direction);
  }

  async detach(ifindex: number, direction: TcDirection): Promise<void> {
    this.#detachTcx(ifindex, direction);
    const here = (await this.#filters.filters()).filter((filter) => filter.ifindex === ifindex);
    const ours = here.find((filter) => filter.direction === direction && isOurs(filter));
    if (ours !== undefined) {
      const target = { ifindex, direction: NATIVE[direction], handle: HANDLE, priority: PRIORITY };
      unlessGone(() => translated(`detach from interface ${ifindex} ${direction}`, () => detachTc(target)));
    }
    const others = here.filter((filter) => filter !== ours);
    if (others.length === 0) this.#removeOwnQdisc(ifindex);
  }

  /** Unpins what is not attached any more: pinned, it keeps its program, and that the module. */
  prune(): void {
    for (const name of namesIn(join(this.#root, 'links'))) {
      if (this.#linkOf(name) === undefined) unpin(join(this.#root, 'links', name));
    }
  }

  async close(): Promise<void> {
    await this.#filters.close();
  }

  #attachesAs(): 'TCX' | 'Clsact' {
    return this.#kind ?? (this.#supportsTcx() ? 'TCX' : 'Clsact');
  }

  #supportsTcx(): boolean {
    return translated('ask the kernel for TCX', tcxSupported);
  }

  #linkPath(ifindex: number, direction: TcDirection): string {
    return join(this.#root, 'links', `${ifindex}_${NATIVE[direction]}`);
  }

  /** Pinned links that are attached. Those of interfaces that are gone have index 0. */
  #links(): readonly Attached[] {
    return namesIn(join(this.#root, 'links')).flatMap((name) => this.#linkOf(name) ?? []);
  }

  #linkOf(name: string): Attached | undefined {
    const [ifindex = '', side = ''] = name.split('_');
    const direction = side === 'ingress' ? 'Ingress' : 'Egress';
    const info = this.#linkInfo(Number(ifindex), direction);
    if (info?.ifindex !== Number(ifindex)) return undefined;
    return { ifindex: Number(ifindex), direction, kind: 'TCX', programId: info.programId };
  }

  #linkInfo(ifindex: number, direction: TcDirection): ReturnType<BpfLink['info']> | undefined {
    try {
      return translated('open link', () => {
        using link = BpfLink.openPinned(this.#linkPath(ifindex, direction));
        return link.info();
      });
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  #attachTcx(program: BpfProgram, ifindex: number, direction: TcDirection): void {
    const path = this.#linkPath(ifindex, direction);
    const info = this.#linkInfo(ifindex, direction);
    translated(`attach to interface ${ifindex} ${direction}`, () => {
      if (info?.ifindex === ifindex) {
        if (info.programId === program.id) return;
        using link = BpfLink.openPinned(path);
        link.update(program);
        return;
      }
      // Pods come and go, and nobody else unpins what was on the interfaces of those that went.
      this.prune();
      mkdirSync(join(this.#root, 'links'), { recursive: true, mode: 0o700 });
      using link = attachTcx(program, { ifindex, direction: NATIVE[direction] });
      link.pin(path);
    });
  }

  #detachTcx(ifindex: number, direction: TcDirection): void {
    const path = this.#linkPath(ifindex, direction);
    const info = this.#linkInfo(ifindex, direction);
    if (info === undefined) return;
    translated(`detach from interface ${ifindex} ${direction}`, () => {
      if (info.ifindex === ifindex) {
        // At once, while the last reference would go some time later.
        using link = BpfLink.openPinned(path);
        link.detach();
      }
      unpin(path);
    });
  }

  async #attachClsact(program: BpfProgram, ifindex: number, direction: TcDirection): Promise<void> {
    await this.#ensureQdisc(ifindex);
    const taken = (await this.#filters.filters()).find(
      (filter) =>
        filter.ifindex === ifindex && filter.direction === direction && filter.priority === PRIORITY,
    );
    if (taken !== undefined && !isOurs(taken)) {
      throw new HostError(
        `interface ${ifindex} ${direction}: priority ${PRIORITY} has the filter ${taken.name ?? taken.kind} of somebody else`,
        { code: 'AlreadyExists', errno: 'EEXIST', advice: 'Give that filter another priority.' },
      );
    }
    if (taken?.programId === program.id) return;
    const target = {
      ifindex,
      direction: NATIVE[direction],
      handle: HANDLE,
      priority: PRIORITY,
      replace: true,
    };
    translated(`attach to interface ${ifindex} ${direction}`, () => attachTc(program, target));
  }

  async #ensureQdisc(ifindex: number): Promise<void> {
    const qdiscs = await this.#filters.qdiscs();
    for (const name of namesIn(join(this.#root, 'qdiscs')))
      if (!qdiscs.has(Number(name))) this.#removeMark(Number(name));
    const kind = qdiscs.get(ifindex);
    if (kind === 'clsact') return;
    if (kind !== undefined) {
      throw new HostError(`interface ${ifindex} has a qdisc "${kind}" in the place of clsact`, {
        code: 'AlreadyExists',
        errno: 'EEXIST',
        advice: `Replace it: an ${kind} qdisc has no egress side.`,
      });
    }
    // The mark first: a qdisc without it would stay for ever after a crash.
    mkdirSync(join(this.#root, 'qdiscs', String(ifindex)), { recursive: true, mode: 0o700 });
    const created = translated(`add clsact to interface ${ifindex}`, () => createClsact(ifindex));
    if (!created) this.#removeMark(ifindex);
  }

  #removeOwnQdisc(ifindex: number): void {
    if (!namesIn(join(this.#root, 'qdiscs')).includes(String(ifindex))) return;
    unlessGone(() => translated(`remove clsact from interface ${ifindex}`, () => destroyClsact(ifindex)));
    this.#removeMark(ifindex);
  }

  #removeMark(ifindex: number): void {
    try {
      rmdirSync(join(this.#root, 'qdiscs', String(ifindex)));
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
  }
}

/** An interface may go at any time, with all that is on it: nothing is left to be removed then. */
function unlessGone(remove: () => void): void {
  try {
    remove();
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}

function tcxIds(ifindex: number, direction: TcDirection): readonly number[] {
  try {
    return translated(`list TCX programs of interface ${ifindex}`, () =>
      tcxProgramIds(ifindex, NATIVE[direction]),
    );
  } catch (error) {
    if (isNotFound(error)) return []; // the interface went meanwhile
    throw error;
  }
}

function programName(id: number): string {
  try {
    return translated(`open program ${id}`, () => {
      using program = Program.openById(id);
      return program.info.name;
    });
  } catch (error) {
    if (isNotFound(error)) return `id ${id}`; // detached meanwhile
    throw error;
  }
}
