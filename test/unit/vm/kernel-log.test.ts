// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { kernelProblems } from '../../vm/kernel-log.ts';

describe('a kernel log', () => {
  it.each([
    'BUG: kernel NULL pointer dereference, address: 0000000000000008',
    'kernel BUG at net/core/skbuff.c:120!',
    'Oops: 0002 [#1] PREEMPT SMP NOPTI',
    'WARNING: CPU: 0 PID: 312 at net/netfilter/ipvs/ip_vs_conn.c:900 ip_vs_conn_expire+0x1/0x2 [ip_vs]',
    'WARNING: possible circular locking dependency detected',
    'WARNING: inconsistent lock state',
    'WARNING: suspicious RCU usage',
    'rcu: INFO: rcu_preempt self-detected stall on CPU',
    'rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:',
    'INFO: task modprobe:345 blocked for more than 60 seconds.',
    'watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [rmmod:401]',
    'BUG: KASAN: slab-use-after-free in ip_vs_in+0x12/0x40',
    'refcount_t: underflow; use-after-free.',
    'unregister_netdevice: waiting for veth0 to become free. Usage count = 2',
    'Kernel panic - not syncing: Fatal exception in interrupt',
    'general protection fault, probably for non-canonical address 0xdead000000000122: 0000 [#1]',
    'kmem_cache_destroy ip_vs_conn: Slab cache still has objects',
  ])('with "%s" fails the run', (line) => {
    const log = `[    1.0] before\n[    2.0] ${line}\n[    3.0] after\n`;
    expect(kernelProblems(log)).toEqual([`[    2.0] ${line}`]);
  });

  it.each([
    'IPVS: ipvs loaded.',
    'ip_vs: loading out-of-tree module taints kernel.',
    'ip_vs: module verification failed: signature and/or required key missing - tainting kernel',
    'mtrr: your CPUs had inconsistent fixed MTRR settings',
    'tsc: Unable to calibrate against PIT',
    'hrtimer: interrupt took 19126079 ns',
    'Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on',
    'DEBUG: nothing',
    'rcu: RCU lockdep checking is disabled.',
    'IPv6: ADDRCONF(NETDEV_CHANGE): veth0: link becomes ready',
  ])('with "%s" does not', (line) => {
    expect(kernelProblems(`[    2.0] ${line}\n`)).toEqual([]);
  });
});
