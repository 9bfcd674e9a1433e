# The image of famfs-csi: Node, the compiled program and the libraries they load, nothing else: no shell, no package
# manager.
#
#   docker build -t famfs-csi .
#
# BUILD_IMAGE is any Linux image with Node 20 or newer, npm and a C compiler. Node 24, which the image runs, comes from
# npm with the other dependencies, so each architecture that is built for gets its own.
ARG BUILD_IMAGE=node:24-bookworm

FROM ${BUILD_IMAGE} AS build
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
# Not `npm ci`: see scripts/setup.mjs. The lock file decides every version.
RUN npm install --no-save --ignore-scripts --loglevel=error
COPY tsconfig.json tsconfig.build.json ./
COPY native native
COPY proto proto
COPY src src
RUN node native/build.mjs && node_modules/.bin/tsc --project tsconfig.build.json
# What runs: Node and the shared libraries that it and the addon name, found by the loader itself. The program is there
# under its name, for who runs it in a pod.
RUN npm prune --omit=dev --ignore-scripts \
  && mkdir -p /image/app/native /image/usr/bin && mkdir -m 1777 /image/tmp \
  && node=$(readlink -f node_modules/node-linux-*/bin/node) \
  && strip --strip-unneeded -o /image/usr/bin/node "$node" \
  && rm -rf node_modules/node-linux-* node_modules/.bin node_modules/@types \
  && find node_modules \( -name '*.map' -o -name '*.d.ts' -o -name '*.md' \) -delete \
  && ldd /image/usr/bin/node native/build/famfs.node | grep -o '/[^ :]*\.so[^ ]*' | sort -u \
     | while read -r library; do mkdir -p "/image$(dirname "$library")" && cp -L "$library" "/image$library"; done \
  && cp -r dist/src /image/app/src && cp -r dist/native/. /image/app/native \
  && cp -r native/build /image/app/native/build && cp -r proto package.json node_modules /image/app \
  && sed -i '1s|^#!.*|#!/usr/bin/node --disable-warning=ExperimentalWarning|' /image/app/src/cli/main.js \
  && chmod 755 /image/app/src/cli/main.js && ln -s /app/src/cli/main.js /image/usr/bin/famfs-csi

FROM scratch
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="famfs-csi" \
      org.opencontainers.image.description="Kubernetes storage on shared memory: famfs volumes as a CSI driver" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image /
ENV NODE_ENV=production
# Only the node plugin, which mounts, needs root; the chart says so there.
USER 65532:65532
ENTRYPOINT ["/usr/bin/famfs-csi"]
