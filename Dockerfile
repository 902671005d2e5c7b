# SPDX-License-Identifier: Apache-2.0
# The image of operator and agent is the last stage: the command line and the tc programs. The image of a kernel
# module, for module.kernelMappings of a policy, is stage "module", for one of Debian 12's kernels (6.1 or 6.12):
#   docker build --target module --build-arg KERNEL=6.1 .
# BASE_IMAGE is any Debian 12 with its security updates enabled in apt.
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
 && IPVS_BPF_SKIP_INSTALL=1 scripts/run scripts/build.ts --no-module \
 && rm -rf /var/lib/apt/lists/*

FROM build AS module-build
ARG KERNEL=6.1
RUN apt-get update \
 && IPVS_BPF_SKIP_INSTALL=1 scripts/run scripts/build.ts --kernel ${KERNEL} \
 && for build in build/*/manifest.json; do \
      release=$(basename "$(dirname "${build}")") \
      && mkdir -p "/module/lib/modules/${release}" \
      && cp "build/${release}/ip_vs.ko" "build/${release}/ipvs_bpf_family_id.ko" "${build}" \
        "/module/lib/modules/${release}/"; \
    done

FROM scratch AS module
COPY --from=module-build /module/ /

FROM ${BASE_IMAGE}
# busybox-static is lent to the pods that copy a module out of its image, which has no programs.
RUN apt-get update \
 && apt-get install -y --no-install-recommends busybox-static iproute2 kmod libbpf1 \
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
