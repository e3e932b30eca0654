# The worker, on a CPU libtorch laid out by scripts/libtorch.sh. Build from the repository's root:
#   docker build -f deploy/worker.Dockerfile -t dyadic-worker .
FROM rust:1.95.0-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /src
ENV DYADIC_CACHE=/opt/dyadic
COPY scripts scripts
RUN scripts/setup.sh libtorch
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    LIBTORCH=/opt/dyadic/libtorch-2.13.0-cpu cargo build --release --locked -p dyadic-worker \
    && install -D -t /out target/release/dyadic-worker

FROM debian:12.12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/dyadic --create-home dyadic
COPY --from=build /opt/dyadic/libtorch-2.13.0-cpu/lib/ /opt/libtorch/lib/
COPY --from=build /out/ /usr/local/bin/
COPY deploy/entrypoint.sh /usr/local/bin/entrypoint
USER 10001
ENV LD_LIBRARY_PATH=/opt/libtorch/lib DYADIC_WORKER_CACHE=/var/lib/dyadic/cache
VOLUME /var/lib/dyadic
# It gives its job back on SIGTERM.
STOPSIGNAL SIGTERM
# It listens on nothing: that it works is what its leases show. Here, that the process is there.
HEALTHCHECK --interval=30s --timeout=5s CMD ["grep", "-q", "dyadic-worker", "/proc/1/comm"]
ENTRYPOINT ["entrypoint"]
CMD ["dyadic-worker", "run"]
