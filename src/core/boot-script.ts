// SPDX-License-Identifier: Apache-2.0
/** The files by which a host loads the patched module at boot, as text. docs/modules.md explains them. */

/** Below the host's root. */
export const MODULES_LOAD_FILE = 'etc/modules-load.d/ipvs-bpf.conf';
export const MODPROBE_FILE = 'etc/modprobe.d/ipvs-bpf.conf';

/** In the directory of the script. */
export const BOOT_FILES = {
  script: 'load-module',
  /** RELEASE SHA256 BOOT-ID SRCVERSION, and below it the modules that this one depends on. */
  record: 'module',
  module: 'ip_vs.ko',
  /** The boot that has begun to load the module; goes when an agent has found that it went well. */
  attempt: 'attempt',
  /** BOOT-ID RESULT MESSAGE */
  outcome: 'outcome',
} as const;

export const MODULES_LOAD_TEXT = `# Written by ipvs-bpf (module.activation: NextBoot): the next line loads ip_vs at boot, which the
# file of the same name in /etc/modprobe.d makes the patched one.
ip_vs
`;

/** Seconds until a boot gives up waiting for the directory of the script, and then for a file system that takes writes. */
const WAIT_SECONDS = 20;

/**
 * For modprobe, which gives the rest of the line to sh. The directory may be on a file system that is mounted later; an
 * initramfs, which may have a copy of this file, loads nothing.
 */
export function modprobeText(directory: string): string {
  const script = quoted(`${directory}/${BOOT_FILES.script}`);
  const command = [
    '[ -e /etc/initrd-release ] && exit 0',
    `n=0; while [ ! -f ${script} ] && [ $n -lt ${WAIT_SECONDS} ]; do sleep 1; n=$((n + 1)); done`,
    `[ -f ${script} ] && exec /bin/sh ${script} $CMDLINE_OPTS`,
    'exec modprobe --ignore-install ip_vs $CMDLINE_OPTS',
  ];
  return `# Written by ipvs-bpf (module.activation: NextBoot). Without this file the kernel's own ip_vs is loaded.
install ip_vs ${command.join('; ')}
`;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/**
 * Loads the module beside it, or, if anything is not as it should be, the kernel's own. It has to do with a POSIX shell,
 * kmod, sha256sum and sync of any host. Arguments: the module's options.
 */
export const BOOT_SCRIPT = `#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Written by ipvs-bpf. modprobe runs this in place of loading ip_vs, as /etc/modprobe.d/ipvs-bpf.conf says.
# It loads the ip_vs.ko beside it if that is what was recorded, and the kernel's own module otherwise.

dir=\${0%/*}
boot=$(cat /proc/sys/kernel/random/boot_id)

outcome() { # RESULT MESSAGE
	{
		printf '%s %s %s\\n' "$boot" "$1" "$2" >"$dir/outcome.new" &&
			sync "$dir/outcome.new" &&
			mv "$dir/outcome.new" "$dir/outcome"
	} 2>/dev/null
}

fall_back() { # RESULT MESSAGE [OPTION…]
	outcome "$1" "$2"
	echo "ipvs-bpf: loading the kernel's own ip_vs: $1: $2" >&2
	shift 2
	exec modprobe --ignore-install ip_vs "$@"
}

# Two may run at once.
is_loaded() { [ -d /sys/module/ip_vs ] && [ "$(cat /sys/module/ip_vs/srcversion)" = "$srcversion" ]; }

# On the disk before anything is loaded: should this boot end in a crash, the next one finds it.
mark() { { echo "$boot" >"$dir/attempt" && sync "$dir/attempt" "$dir"; } 2>/dev/null; }

release='' digest='' srcversion='' depends=''
{
	read -r release digest _ srcversion
	read -r depends
} 2>/dev/null <"$dir/module"
[ -n "$digest" ] || fall_back FileMissing "$dir/module cannot be read" "$@"
running=$(uname -r)
[ "$release" = "$running" ] || fall_back OtherKernel "the module is for $release, and $running runs" "$@"
[ -f "$dir/ip_vs.ko" ] || fall_back FileMissing "there is no $dir/ip_vs.ko" "$@"
found=$(sha256sum <"$dir/ip_vs.ko")
[ "\${found%% *}" = "$digest" ] ||
	fall_back DigestMismatch "the sha256 of $dir/ip_vs.ko is \${found%% *}, not $digest" "$@"
if [ -e "$dir/attempt" ] && [ "$(cat "$dir/attempt")" != "$boot" ]; then
	fall_back Unconfirmed "the boot before loaded it and did not get as far as an agent that found all well" "$@"
fi

# Early in a boot the root file system may still be read-only.
n=0
until mark; do
	[ "$n" -lt ${WAIT_SECONDS} ] || fall_back NotWritable "$dir cannot be written" "$@"
	sleep 1
	n=$((n + 1))
done

load() {
	for name in $depends; do
		modprobe "$name" || return
	done
	insmod "$dir/ip_vs.ko" "$@"
}

said=$(load "$@" 2>&1) || is_loaded || {
	# The kernel goes on without it: nothing to protect the next boot from.
	rm -f "$dir/attempt"
	fall_back InsertFailed "$said" "$@"
}
outcome Loaded "$srcversion"
exit 0
`;
