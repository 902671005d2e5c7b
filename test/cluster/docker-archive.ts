// SPDX-License-Identifier: Apache-2.0
/** The two JSON files of an image archive with one layer. */

/** The part of an image's configuration that we set. */
export interface ImageConfig {
  readonly Entrypoint?: readonly string[];
  readonly Cmd?: readonly string[];
  readonly Env?: readonly string[];
}

/** @param layer sha256 of the uncompressed layer, in hexadecimal */
export function imageConfig(config: ImageConfig, layer: string): string {
  return JSON.stringify({
    architecture: 'amd64',
    os: 'linux',
    config,
    rootfs: { type: 'layers', diff_ids: [`sha256:${layer}`] },
  });
}

export function archiveManifest(tag: string): string {
  return JSON.stringify([{ Config: 'config.json', RepoTags: [tag], Layers: ['layer.tar'] }]);
}
