// SPDX-License-Identifier: Apache-2.0

/** Lines of a kernel's log that say that the kernel itself, or a module, is wrong. */
const problems: readonly RegExp[] = [
  /\bBUG: /,
  /kernel BUG at /,
  /\bWARNING: /,
  /\bOops\b/,
  /Kernel panic/,
  /general protection fault/,
  /unable to handle /i,
  /divide error: /,
  /invalid opcode: /,
  /stack segment: /,
  // lockdep
  /possible (circular locking|irq lock inversion|recursive locking|deadlock)/i,
  /inconsistent lock state/,
  /bad unlock balance/,
  /held lock freed/,
  /scheduling while atomic/,
  /sleeping function called from invalid context/,
  // RCU
  /rcu.*(self-detected stall|detected stalls|detected expedited stalls)/,
  /suspicious RCU usage/,
  /kthread starved for/,
  // sanitizers and debugging checks
  /\b(KASAN|KFENCE|UBSAN|KCSAN|KMSAN): /,
  /refcount_t: /,
  /list_(add|del) corruption/,
  /\bSlab corruption|Poison overwritten|Redzone overwritten|Object already free/,
  /Objects remaining in .* on __kmem_cache_shutdown/,
  /kmem_cache_destroy .*: Slab cache still has objects/,
  // hangs and leaks
  /blocked for more than \d+ seconds/,
  /soft lockup|hard LOCKUP/,
  /unregister_netdevice: waiting for /,
  /NETDEV WATCHDOG/,
  /Out of memory: Killed process/,
];

/** Lines that match one of the above and yet tell of nothing wrong. */
const benign: readonly RegExp[] = [
  /WARNING: Unprivileged eBPF is enabled/,
  /Speculative Return Stack Overflow/,
];

/** The lines of a kernel's log for which a run has to fail. */
export function kernelProblems(log: string): string[] {
  return log
    .split('\n')
    .filter((line) => problems.some((problem) => problem.test(line)))
    .filter((line) => !benign.some((harmless) => harmless.test(line)));
}
