# The gRPC server, with the `dyadic` command beside it. Build from the repository's root:
#   docker build -f deploy/server.Dockerfile -t dyadic-server .
FROM rust:1.95.0-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked -p dyadic-server -p dyadic-cli \
    && install -D -t /out target/release/dyadic-server target/release/dyadic

FROM debian:12.12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/dyadic --create-home dyadic
COPY --from=build /out/ /usr/local/bin/
COPY deploy/entrypoint.sh /usr/local/bin/entrypoint
USER 10001
ENV DYADIC_DATA_DIR=/var/lib/dyadic
VOLUME /var/lib/dyadic
EXPOSE 8470
STOPSIGNAL SIGTERM
# A whole call: port, token, registry. The token is the one that the server wrote into its data folder.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["dyadic", "serve-stats", "--json"]
ENTRYPOINT ["entrypoint"]
CMD ["dyadic-server"]
