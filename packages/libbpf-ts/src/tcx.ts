// SPDX-License-Identifier: Apache-2.0
import type { TcDirection } from './constants.ts';
import { check, EINVAL, ENODEV, ENOSPC } from './errors.ts';
import { BpfLink } from './link.ts';
import { libbpf } from './native.ts';
import type { BpfProgram } from './program.ts';

/** enum bpf_attach_type: BPF_TCX_INGRESS, BPF_TCX_EGRESS. */
const ATTACH_TYPES: Readonly<Record<TcDirection, number>> = { ingress: 46, egress: 47 };
const LOOPBACK = 1;

/**
 * Attaches behind the TCX programs that are there. A program that returns TC_ACT_OK ends the chain:
 * what comes behind it, clsact filters included, does not run; TC_ACT_UNSPEC (-1) goes on. Throws
 * BpfError EINVAL on a kernel before 6.6 (see tcxSupported), ENODEV if there is no such interface.
 */
export function attachTcx(
  program: BpfProgram,
  target: { readonly ifindex: number; readonly direction: TcDirection },
): BpfLink {
  return BpfLink.create(program, target.ifindex, ATTACH_TYPES[target.direction]);
}

/** Ids of the TCX programs of an interface in the order they run. `bpftool net` (from 7.3 on) */
export function tcxProgramIds(ifindex: number, direction: TcDirection): number[] {
  for (let room = 64; ; room *= 2) {
    const ids = new Uint32Array(room);
    const { code, count } = query(ifindex, direction, ids);
    // ENOSPC: there are more than we have room for.
    if (code === -ENOSPC) continue;
    check('bpf_prog_query', code, `interface ${ifindex}`);
    return Array.from(ids.subarray(0, count));
  }
}

/** True if this kernel has TCX (6.6 and later, CONFIG_NET_XGRESS). Throws BpfError EPERM without CAP_NET_ADMIN. */
export function tcxSupported(): boolean {
  const { code } = query(LOOPBACK, 'ingress', new Uint32Array(64));
  // Kernels without it do not know the attach type; those with it know the loopback, or say ENODEV.
  if (code === -EINVAL) return false;
  if (code !== -ENODEV && code !== -ENOSPC) check('bpf_prog_query', code, 'loopback interface');
  return true;
}

function query(ifindex: number, direction: TcDirection, ids: Uint32Array) {
  const count = Uint32Array.of(ids.length);
  const attachFlags = new Uint32Array(1);
  const type = ATTACH_TYPES[direction];
  const code = libbpf().bpf_prog_query(ifindex, type, 0, attachFlags, ids, count);
  return { code, count: count[0] ?? 0 };
}
