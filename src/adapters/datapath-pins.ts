// SPDX-License-Identifier: Apache-2.0
/**
 * The pinned maps and programs of one object file, in this tree of the bpf file system:
 *
 *   abi_VERSION/                   directory that says which bpf/abi.h the maps are of
 *   ipvs_services, ...             maps
 *   programs/OBJECT_CONSTANTS/     one generation: ingress, egress and rodata (the constants), named by
 *                                  the sha256 of the object and the start of that of the constants;
 *                                  OBJECT_CONSTANTS_kfuncs if they call the module
 *   refused_OBJECT_MODULE/         directory that says that the kernel did not take the programs of this
 *                                  object with this module: `node status` is to know what the agent does
 *
 * A generation is pinned whole before the one before it goes, so that a crash at any point leaves
 * programs that run, and the next load() finds out what is missing.
 */
import { mkdirSync, readdirSync, rmSync, statfsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import {
  BpfMap,
  type BpfObject,
  BpfProgram,
  type OpenedObject,
  openObject,
  readKernelBtf,
  unpin,
} from 'libbpf-ts';
import { ABI_VERSION, decodePortRanges, encodePortRanges, encodeUint32 } from '../core/abi.ts';
import { errnoOf, HostError, isNotFound } from '../core/errors.ts';
import type { DatapathConstants, DatapathState } from '../datapath-ports.ts';
import { translated } from './bpf-errors.ts';

/** The maps of bpf/abi.h. */
export const MAP_NAMES = [
  'ipvs_cluster',
  'ipvs_counters',
  'ipvs_exhausted',
  'ipvs_forwarded',
  'ipvs_frags',
  'ipvs_held',
  'ipvs_hold',
  'ipvs_peer_ifs',
  'ipvs_replies',
  'ipvs_services',
  'ipvs_sessions',
  'ipvs_snat_addrs',
  'ipvs_snat_ids',
  'ipvs_snat_ifs',
] as const;
export type MapName = (typeof MAP_NAMES)[number];

/** Maps that hold an entry a session. */
const SESSION_MAPS: ReadonlySet<string> = new Set<MapName>(['ipvs_sessions', 'ipvs_replies']);

export const PROGRAM_NAMES = { Ingress: 'ipvs_tc_ingress', Egress: 'ipvs_tc_egress' } as const;
const PORT_RANGES_VARIABLE = 'ipvs_port_ranges';
const ABI_DIRECTORY = `abi_${ABI_VERSION}`;
/** What datapath-tc.ts keeps in the same place. */
const DIRECTORIES: readonly string[] = ['links', 'qdiscs'];
/** BPF_FS_MAGIC, linux/magic.h */
const BPF_FS_MAGIC = 0xcafe4a11;

/** A complete set of pinned programs. */
interface Generation {
  readonly name: string;
  readonly ingress: BpfProgram['info'];
  readonly egress: BpfProgram['info'];
  readonly constants: DatapathConstants;
}

export interface LoadRequest {
  readonly objectPath: string;
  /** Name of the generation, see generationName. */
  readonly generation: string;
  readonly sessionMapMaxEntries: number;
  readonly constants: DatapathConstants;
}

const USES_MODULE = '_kfuncs';
const REFUSED = 'refused_';

/** Both hashes are hexadecimal sha256. The file system allows no dots in names. */
export function generationName(of: {
  readonly objectHash: string;
  readonly constantsHash: string;
  readonly usesModule: boolean;
}): string {
  return `${of.objectHash}_${of.constantsHash.slice(0, 8)}${of.usesModule ? USES_MODULE : ''}`;
}

export class DatapathPins {
  readonly #root: string;
  /** By the id of their map, which the kernel lets nobody write, and whose id it gives to no other. */
  readonly #constants = new Map<number, DatapathConstants>();

  constructor(root: string) {
    this.#root = root;
  }

  /** Throws HostError NotFound if it is not pinned. Close it after use. */
  openMap(name: MapName): BpfMap {
    return translated(`open map ${name}`, () => BpfMap.openPinned(join(this.#root, name)));
  }

  /** The current program of a direction. Throws HostError NotFound without programs. Close it after use. */
  openProgram(direction: keyof typeof PROGRAM_NAMES): BpfProgram {
    const generation = this.#generations().at(-1);
    if (generation === undefined)
      throw new HostError('no tc programs are pinned', { code: 'NotFound', errno: 'ENOENT' });
    const file = direction === 'Ingress' ? 'ingress' : 'egress';
    const path = join(this.#generationPath(generation.name), file);
    return translated(`open program ${path}`, () => BpfProgram.openPinned(path));
  }

  /** Ids of the current programs, or undefined. */
  programIds(): Readonly<Record<keyof typeof PROGRAM_NAMES, number>> | undefined {
    const generation = this.#generations().at(-1);
    return generation && { Ingress: generation.ingress.id, Egress: generation.egress.id };
  }

  /** What is pinned, or undefined if anything is missing. */
  state(): DatapathState | undefined {
    const generation = this.#generations().at(-1);
    const maps = this.#mapInfos();
    const sessions = maps.get('ipvs_sessions');
    if (generation === undefined || sessions === undefined || maps.size < MAP_NAMES.length) return undefined;
    if (this.#abiIsOther() || !usesOnly(generation, maps)) return undefined;
    return {
      mapIds: Object.fromEntries([...maps].map(([name, info]) => [name, info.id])),
      sessionMapMaxEntries: sessions.maxEntries,
      programIds: { ingress: generation.ingress.id, egress: generation.egress.id },
      constants: generation.constants,
      objectHash: generation.name.split('_')[0] ?? '',
      usesModule: generation.name.endsWith(USES_MODULE),
    };
  }

  /** Pins what is missing or does not fit. The generation before stays until prune(). */
  load(request: LoadRequest): void {
    if (this.#fits(request)) return;
    this.#requireBpfFs();
    if (this.#abiIsOther()) this.#removeMapsAndPrograms();
    mkdirSync(join(this.#root, ABI_DIRECTORY), { recursive: true, mode: 0o700 });
    rmSync(this.#generationPath(request.generation), { recursive: true, force: true });
    translated(`load ${request.objectPath}`, () => {
      using opened = openObject(request.objectPath);
      this.#prepare(opened, request);
      using object = opened.load();
      this.#pinGeneration(object, request.generation);
    });
  }

  /** Removes the generations before the current one, and incomplete ones. */
  prune(): void {
    const current = this.#generations().at(-1)?.name;
    for (const name of this.#generationNames()) {
      if (name !== current) rmSync(this.#generationPath(name), { recursive: true, force: true });
    }
  }

  /** True if the kernel has refused this object, see rememberRefusal(). */
  isRefused(pair: string): boolean {
    return namesIn(this.#root).includes(`${REFUSED}${pair}`);
  }

  /** Until another one is refused, or everything is removed. `pair`: CallingObject.pair of tc-objects.ts. */
  rememberRefusal(pair: string): void {
    for (const name of namesIn(this.#root)) {
      if (name.startsWith(REFUSED)) rmSync(join(this.#root, name), { recursive: true });
    }
    mkdirSync(join(this.#root, `${REFUSED}${pair}`), { mode: 0o700 });
  }

  /** Removes every pin. */
  remove(): void {
    rmSync(this.#root, { recursive: true, force: true });
  }

  /** Attachments stay: load() gives them the new programs. */
  #removeMapsAndPrograms(): void {
    for (const name of namesIn(this.#root)) {
      if (!DIRECTORIES.includes(name)) rmSync(join(this.#root, name), { recursive: true });
    }
  }

  #fits(request: LoadRequest): boolean {
    const state = this.state();
    return (
      state !== undefined &&
      this.#generations().at(-1)?.name === request.generation &&
      state.sessionMapMaxEntries === request.sessionMapMaxEntries
    );
  }

  #prepare(opened: OpenedObject, request: LoadRequest): void {
    opened.setGlobal(PORT_RANGES_VARIABLE, encodePortRanges(request.constants.portRanges));
    for (const name of MAP_NAMES) {
      const settings = opened.map(name);
      if (SESSION_MAPS.has(name)) settings.setMaxEntries(request.sessionMapMaxEntries);
      const path = join(this.#root, name);
      const pinned = this.#mapInfo(name);
      const fits =
        pinned === undefined ||
        (['type', 'keySize', 'valueSize', 'maxEntries', 'flags'] as const).every(
          (key) => pinned[key] === settings[key],
        );
      // The programs of before keep the old map until they are replaced.
      if (!fits) unpin(path);
      settings.setPinPath(path);
    }
  }

  #pinGeneration(object: BpfObject, name: string): void {
    const directory = this.#generationPath(name);
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const rodata = object.mapNames.find((map) => map.endsWith('.rodata'));
    if (rodata === undefined) throw new HostError('the object has no constants', { code: 'ObjectInvalid' });
    object.map(rodata).pin(join(directory, 'rodata'));
    object.program(PROGRAM_NAMES.Egress).pin(join(directory, 'egress'));
    object.program(PROGRAM_NAMES.Ingress).pin(join(directory, 'ingress'));
  }

  /** Complete generations, the newest last. */
  #generations(): readonly Generation[] {
    const complete = this.#generationNames().flatMap((name) => this.#readGeneration(name));
    return complete.sort((a, b) => (a.ingress.loadTimeNs < b.ingress.loadTimeNs ? -1 : 1));
  }

  #readGeneration(name: string): Generation[] {
    const directory = this.#generationPath(name);
    const present = readdirSync(directory);
    if (!['ingress', 'egress', 'rodata'].every((file) => present.includes(file))) return [];
    return translated(`read ${directory}`, () => {
      using ingress = BpfProgram.openPinned(join(directory, 'ingress'));
      using egress = BpfProgram.openPinned(join(directory, 'egress'));
      using rodata = BpfMap.openPinned(join(directory, 'rodata'));
      return [{ name, ingress: ingress.info, egress: egress.info, constants: this.#constantsIn(rodata) }];
    });
  }

  #constantsIn(rodata: BpfMap): DatapathConstants {
    const { id } = rodata.info;
    const constants = this.#constants.get(id) ?? readConstants(rodata);
    this.#constants.set(id, constants);
    return constants;
  }

  #generationNames(): readonly string[] {
    return namesIn(join(this.#root, 'programs'));
  }

  #generationPath(name: string): string {
    return join(this.#root, 'programs', name);
  }

  #mapInfos(): ReadonlyMap<MapName, BpfMap['info']> {
    const out = new Map<MapName, BpfMap['info']>();
    for (const name of MAP_NAMES) {
      const info = this.#mapInfo(name);
      if (info !== undefined) out.set(name, info);
    }
    return out;
  }

  #mapInfo(name: MapName): BpfMap['info'] | undefined {
    try {
      using map = this.openMap(name);
      return map.info;
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  /** Maps of another bpf/abi.h may have the same sizes and another meaning. */
  #abiIsOther(): boolean {
    const names = namesIn(this.#root).filter((name) => !DIRECTORIES.includes(name));
    return names.length > 0 && !names.includes(ABI_DIRECTORY);
  }

  #requireBpfFs(): void {
    const parent = dirname(this.#root);
    try {
      if (statfsSync(parent).type === BPF_FS_MAGIC) return;
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
    throw new HostError(`${parent} is no bpf file system`, {
      code: 'NotSupported',
      advice: `Mount it: mount -t bpf bpf ${parent}`,
    });
  }
}

/** False if a map was made anew under programs that still use the one before. */
function usesOnly(generation: Generation, maps: ReadonlyMap<MapName, BpfMap['info']>): boolean {
  const pinned = new Set([...maps.values()].map((info) => info.id));
  const used = new Set([...generation.ingress.mapIds, ...generation.egress.mapIds]);
  // Sections of the object (constants, kernel settings) are maps as well, of the programs alone.
  return [...used].every((id) => pinned.has(id) || !(MAP_NAMES as readonly string[]).includes(mapName(id)));
}

function mapName(id: number): string {
  return translated(`open map ${id}`, () => {
    using map = BpfMap.openById(id);
    return map.info.name;
  });
}

/** The constants as the programs were loaded with them: their section is a map. */
function readConstants(rodata: BpfMap): DatapathConstants {
  const section = rodata.raw().get(encodeUint32(0));
  const btf = readKernelBtf(rodata.info.btfId);
  const type = btf.type(rodata.info.btfValueType);
  const variables = type.kind === 'datasec' ? type.variables : [];
  const variable = variables.find((candidate) => btf.type(candidate.type).name === PORT_RANGES_VARIABLE);
  if (section === undefined || variable === undefined) {
    throw new HostError(`pinned programs without ${PORT_RANGES_VARIABLE}`, { code: 'ObjectInvalid' });
  }
  return { portRanges: decodePortRanges(section.subarray(variable.offset, variable.offset + variable.size)) };
}

/** Names in a directory; none if it is not there. */
export function namesIn(directory: string): readonly string[] {
  try {
    return readdirSync(directory).sort();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}
