# SPDX-License-Identifier: Apache-2.0
# One image for operator and agent: the command line, the tc programs, and the kernel module for
# Debian 12's kernels. BASE_IMAGE is any Debian 12 with its security updates enabled in apt.
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE} AS npm
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates nodejs npm \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/ipvs-bpf
COPY package.json package-lock.json .npmrc ./
COPY packages/libbpf-ts/package.json packages/libbpf-ts/package.json

# What runs on a node: the pinned Node and the packages with native code, no development tools.
FROM npm AS runtime-modules
COPY scripts/prune-modules.sh scripts/
RUN npm ci --omit=dev --ignore-scripts \
 && scripts/prune-modules.sh node_modules

FROM npm AS build
RUN npm ci --ignore-scripts
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
    bc binutils clang-14 gcc-12 kmod libbpf-dev libc6-dev libelf-dev make pahole xz-utils \
 && rm -rf /var/lib/apt/lists/*
COPY . .
RUN apt-get update \
 && IPVS_BPF_SKIP_INSTALL=1 scripts/run scripts/build.ts \
 && rm -rf /var/lib/apt/lists/*

FROM ${BASE_IMAGE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends iproute2 kmod libbpf1 \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old
WORKDIR /opt/ipvs-bpf
COPY LICENSE ./
COPY LICENSES/ LICENSES/
COPY --from=runtime-modules /opt/ipvs-bpf/node_modules/ node_modules/
COPY --from=build /opt/ipvs-bpf/packages/ packages/
COPY --from=build /opt/ipvs-bpf/crds/ crds/
COPY --from=build /opt/ipvs-bpf/build/ build/
COPY --from=build /opt/ipvs-bpf/dist/ dist/
ENTRYPOINT ["/opt/ipvs-bpf/dist/ipvs-bpf"]
