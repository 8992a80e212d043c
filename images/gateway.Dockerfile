# The gateway. From the repository's root: docker build -f images/gateway.Dockerfile -t REGISTRY/aldis-gateway:TAG .
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential ca-certificates libssl-dev pkg-config
WORKDIR /src
COPY . .
RUN cargo build --locked --release --bin aldis-gateway --bin aldis-health \
 && scripts/rootfs.sh /rootfs target/release/aldis-gateway target/release/aldis-health

# Exactly what scripts/rootfs.sh lists: no shell, no package manager.
FROM scratch
COPY --from=build /rootfs/ /
USER 65532:65532
EXPOSE 9901
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["/aldis-health", "127.0.0.1:9901"]
ENTRYPOINT ["/aldis-gateway"]
