// SPDX-License-Identifier: Apache-2.0
import { LITTLE_ENDIAN, viewOf } from './codec.ts';
import { call } from './log.ts';
import { setPointer } from './native.ts';

export interface RunOptions {
  /** The packet; programs of type sched_cls and xdp need at least an Ethernet header (14 bytes). */
  readonly data?: Uint8Array;
  /** The context: a struct __sk_buff (see encodeSkBuff) or struct xdp_md. */
  readonly context?: Uint8Array;
  /** Times to run; the kernel gives the result of the last run. Default 1. */
  readonly repeat?: number;
  /** BPF_F_TEST_* bits. */
  readonly flags?: number;
  /** CPU to run on, with flag BPF_F_TEST_RUN_ON_CPU (raw tracepoints only). */
  readonly cpu?: number;
  /** Bytes by which the program may make the packet longer. Default 256. */
  readonly headroom?: number;
}

export interface RunResult {
  /** What the program returned, as a signed 32-bit number (TC_ACT_UNSPEC and TCX_NEXT are -1). */
  readonly retval: number;
  /** The packet afterwards. */
  readonly data: Uint8Array;
  /** The context afterwards; empty if none was given. */
  readonly context: Uint8Array;
  /** Nanoseconds, average of all runs. */
  readonly durationNs: number;
}

/** Size of struct bpf_test_run_opts. */
const OPTIONS_SIZE = 80;

export function runProgram(fd: number, name: string, options: RunOptions): RunResult {
  const input = options.data ?? new Uint8Array(0);
  const context = options.context ?? new Uint8Array(0);
  const output = new Uint8Array(input.length === 0 ? 0 : input.length + (options.headroom ?? 256));
  const contextOutput = new Uint8Array(context.length);
  const request = new Uint8Array(OPTIONS_SIZE);
  const view = viewOf(request);
  view.setBigUint64(0, BigInt(OPTIONS_SIZE), LITTLE_ENDIAN);
  setMemory(request, { pointer: 8, size: 24 }, input);
  setMemory(request, { pointer: 16, size: 28 }, output);
  setMemory(request, { pointer: 32, size: 48 }, context);
  setMemory(request, { pointer: 40, size: 52 }, contextOutput);
  view.setInt32(60, options.repeat ?? 1, LITTLE_ENDIAN);
  view.setUint32(68, options.flags ?? 0, LITTLE_ENDIAN);
  view.setUint32(72, options.cpu ?? 0, LITTLE_ENDIAN);
  call('bpf_prog_test_run_opts', name, (native) => native.bpf_prog_test_run_opts(fd, request));
  return {
    retval: view.getInt32(56, LITTLE_ENDIAN),
    data: output.subarray(0, view.getUint32(28, LITTLE_ENDIAN)),
    context: contextOutput.subarray(0, view.getUint32(52, LITTLE_ENDIAN)),
    durationNs: view.getUint32(64, LITTLE_ENDIAN),
  };
}

function setMemory(
  structure: Uint8Array,
  at: { readonly pointer: number; readonly size: number },
  memory: Uint8Array,
): void {
  setPointer(structure, at.pointer, memory);
  viewOf(structure).setUint32(at.size, memory.length, LITTLE_ENDIAN);
}
