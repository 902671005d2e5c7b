// SPDX-License-Identifier: Apache-2.0
/** Arguments that every virtual machine of ours has. */

/**
 * The processor that QEMU emulates. One with ERMS is given `rep movsb` to copy with, which QEMU carries out byte by byte:
 * without it the same work takes half to two thirds of the time. Benchmarks count instructions on one that has
 * everything.
 */
export function processor({ icount }: { readonly icount: boolean }): string[] {
  return ['-cpu', icount ? 'max' : 'max,erms=off'];
}

/**
 * Only warnings and worse go to the (slow) serial console, as they happen; the whole log is fetched at
 * the end. An oops ends the machine at once, with the whole log printed.
 */
export const kernelArgs = [
  'console=ttyS0',
  'loglevel=5',
  'rdinit=/init',
  'panic=-1',
  'oops=panic',
  'panic_print=0x20',
  'mitigations=off',
  'nokaslr',
  // QEMU 7.2 keeps what it translated by virtual address: with random ones it translates each process anew, which
  // takes three quarters of the time of a short one.
  'norandmaps',
  'tsc=reliable',
  'no_timer_check',
  'random.trust_cpu=on',
  'cryptomgr.notests',
  'net.ifnames=0',
];

/** Arguments for a folder of the host that the guest mounts over 9p by its tag. */
export function share(tag: string, path: string, access: string): string[] {
  // a comma ends a QEMU option's value unless it is doubled
  const quoted = path.replaceAll(',', ',,');
  const options = `security_model=none,multidevs=remap,mount_tag=${tag},${access}`;
  return ['-virtfs', `local,path=${quoted},${options}`];
}

/**
 * Arguments for a network card of the guest at a tap device, which QEMU makes and which goes with it. As from a wire,
 * packets come in one by one: with segmentation offload the host would hand over 64 KB at once.
 */
export function tap(name: string): string[] {
  const netdev = `tap,id=${name},ifname=${name},script=no,downscript=no`;
  const wireSize = 'guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off';
  return ['-netdev', netdev, '-device', `virtio-net-pci,netdev=${name},${wireSize}`];
}
