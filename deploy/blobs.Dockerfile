# Garage, an S3-compatible store, with a shell around it: its own image holds nothing but the program, which takes its keys
# from the environment only.
FROM dxflrs/garage:v2.4.1@sha256:9c96caa2612d3411acc5b0e6701fb238dbfba33e533a6d7d3d811a4b12d0d020 AS garage

FROM debian:12.12-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/garage --create-home garage
COPY --from=garage /garage /usr/local/bin/garage
COPY deploy/entrypoint.sh /usr/local/bin/entrypoint
COPY deploy/garage.toml /etc/garage.toml
USER 10001
VOLUME /var/lib/garage
EXPOSE 3900
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s CMD ["entrypoint", "garage", "status"]
ENTRYPOINT ["entrypoint"]
# Makes layout, key and bucket where they are not there yet.
CMD ["garage", "server", "--single-node", "--default-bucket"]
