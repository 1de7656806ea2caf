# syntax=docker/dockerfile:1
# Quorate's image: the binary, the libraries that it is linked with, and nothing to log in to.
#
# `docker build --tag localhost/quorate:0.1.0 .` builds it; `make image` packs the same content without a container engine.
# Neither can drift from the other: both lay out the files with image/root.sh, and `make image` takes everything else from
# the last stage of this file.

FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /source
COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY src src
COPY image image
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --locked --release --bin quorate \
    && image/root.sh target/release/quorate /image

FROM scratch
LABEL org.opencontainers.image.title="Quorate" \
      org.opencontainers.image.description="Leader election and replicated configuration for Kubernetes" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image/ /
# Inside a container every interface is the container's own; the last one is what `quorate status` asks.
ENV PATH="/usr/bin" \
    QUORATE_DATA_DIR="/var/lib/quorate" \
    QUORATE_HTTP="0.0.0.0:8080" \
    QUORATE_HEALTH="0.0.0.0:9090" \
    QUORATE_MEMBER_LISTEN="0.0.0.0:7400" \
    QUORATE_LOG_FORMAT="json" \
    QUORATE_ENDPOINTS="http://127.0.0.1:8080"
EXPOSE 8080/tcp 9090/tcp 7400/tcp
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/quorate"]
CMD ["serve"]
