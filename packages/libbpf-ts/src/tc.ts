// SPDX-License-Identifier: Apache-2.0
import { LITTLE_ENDIAN, viewOf } from './codec.ts';
import type { TcDirection } from './constants.ts';
import { BpfError, EEXIST, EINVAL, ENODEV, ENOENT } from './errors.ts';
import { call } from './log.ts';
import type { BpfProgram } from './program.ts';

/** One side of an interface. */
export interface TcHook {
  readonly ifindex: number;
  readonly direction: TcDirection;
}

/** A cls_bpf filter in direct-action mode at a hook. */
export interface TcFilter extends TcHook {
  readonly handle: number;
  readonly priority: number;
}

export interface TcAttachOptions extends TcHook {
  /** The kernel chooses what is not given. */
  readonly handle?: number;
  readonly priority?: number;
  /** Replace the program of that handle and priority without a gap, if there is one. */
  readonly replace?: boolean;
}

export interface TcAttached extends TcFilter {
  readonly programId: number;
}

/** enum bpf_tc_attach_point. */
const ATTACH_POINTS: Readonly<Record<TcDirection, number>> = { ingress: 1, egress: 2 };
const BOTH = 3;
const BPF_TC_F_REPLACE = 1;

/** `tc qdisc add dev DEV clsact`; false if there was one already. */
export function createClsact(ifindex: number): boolean {
  try {
    call('bpf_tc_hook_create', `interface ${ifindex}`, (native) =>
      native.bpf_tc_hook_create(encodeHook(ifindex, BOTH)),
    );
    return true;
  } catch (error) {
    if (error instanceof BpfError && error.errno === EEXIST) return false;
    throw error;
  }
}

/** `tc qdisc delete dev DEV clsact`, with all filters on it; false if there was none. */
export function destroyClsact(ifindex: number): boolean {
  return unlessAbsent(() =>
    call('bpf_tc_hook_destroy', `interface ${ifindex}`, (native) =>
      native.bpf_tc_hook_destroy(encodeHook(ifindex, BOTH)),
    ),
  );
}

/**
 * `tc filter add dev DEV ingress|egress bpf direct-action`. Needs a clsact qdisc. Throws BpfError
 * EEXIST if handle and priority are taken and `replace` is not set.
 */
export function attachTc(program: BpfProgram, options: TcAttachOptions): TcAttached {
  const request = encodeOptions({
    programFd: program.fd,
    flags: options.replace === true ? BPF_TC_F_REPLACE : 0,
    handle: options.handle ?? 0,
    priority: options.priority ?? 0,
  });
  const { ifindex, direction } = options;
  call('bpf_tc_attach', `${program.info.name}, interface ${ifindex} ${direction}`, (native) =>
    native.bpf_tc_attach(encodeHook(ifindex, ATTACH_POINTS[direction]), request),
  );
  return decodeAttached(options, request);
}

/** `tc filter delete`; false if it was not there. */
export function detachTc(filter: TcFilter): boolean {
  const { ifindex, direction, handle, priority } = filter;
  return unlessAbsent(() =>
    call('bpf_tc_detach', `interface ${ifindex} ${direction}`, (native) =>
      native.bpf_tc_detach(
        encodeHook(ifindex, ATTACH_POINTS[direction]),
        encodeOptions({ programFd: 0, flags: 0, handle, priority }),
      ),
    ),
  );
}

/** The filter with that handle and priority, or undefined. `tc filter show` */
export function queryTc(filter: TcFilter): TcAttached | undefined {
  const { ifindex, direction, handle, priority } = filter;
  const request = encodeOptions({ programFd: 0, flags: 0, handle, priority });
  const found = unlessAbsent(() =>
    call('bpf_tc_query', `interface ${ifindex} ${direction}`, (native) =>
      native.bpf_tc_query(encodeHook(ifindex, ATTACH_POINTS[direction]), request),
    ),
  );
  return found ? decodeAttached(filter, request) : undefined;
}

/** The kernel says ENOENT or, without a clsact qdisc, EINVAL. An absent interface stays an error (ENODEV). */
function unlessAbsent(body: () => void): boolean {
  try {
    body();
    return true;
  } catch (error) {
    if (!(error instanceof BpfError)) throw error;
    if (error.errno === ENODEV) throw error;
    if (error.errno === ENOENT || error.errno === EINVAL) return false;
    throw error;
  }
}

/** struct bpf_tc_hook. */
function encodeHook(ifindex: number, attachPoint: number): Uint8Array {
  const bytes = new Uint8Array(24);
  const view = viewOf(bytes);
  view.setBigUint64(0, 24n, LITTLE_ENDIAN);
  view.setInt32(8, ifindex, LITTLE_ENDIAN);
  view.setUint32(12, attachPoint, LITTLE_ENDIAN);
  return bytes;
}

/** struct bpf_tc_opts. */
function encodeOptions(options: {
  readonly programFd: number;
  readonly flags: number;
  readonly handle: number;
  readonly priority: number;
}): Uint8Array {
  const bytes = new Uint8Array(32);
  const view = viewOf(bytes);
  view.setBigUint64(0, 32n, LITTLE_ENDIAN);
  view.setInt32(8, options.programFd, LITTLE_ENDIAN);
  view.setUint32(12, options.flags, LITTLE_ENDIAN);
  view.setUint32(20, options.handle, LITTLE_ENDIAN);
  view.setUint32(24, options.priority, LITTLE_ENDIAN);
  return bytes;
}

function decodeAttached(hook: TcHook, request: Uint8Array): TcAttached {
  const view = viewOf(request);
  return {
    ifindex: hook.ifindex,
    direction: hook.direction,
    programId: view.getUint32(16, LITTLE_ENDIAN),
    handle: view.getUint32(20, LITTLE_ENDIAN),
    priority: view.getUint32(24, LITTLE_ENDIAN),
  };
}
