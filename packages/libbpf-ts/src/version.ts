// SPDX-License-Identifier: Apache-2.0
import { libbpf } from './native.ts';

/** Version of the system's libbpf: `v1.1`. */
export function libbpfVersion(): string {
  return libbpf().libbpf_version_string();
}
