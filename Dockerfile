# docker build -t pgdrain .
# docker run -p 6432:6432 -v pgdrain:/var/lib/pgdrain \
#     -e PGDRAIN_UPSTREAM_URL=postgres://USER@HOST:5432 -e PGPASSWORD pgdrain
# docker exec CONTAINER pgdrain hold DB

FROM rust:1.95-slim-trixie AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked --bin pgdrain

FROM debian:trixie-slim
# psql for whoever has to look into a window; the certificates for servers that we verify.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates postgresql-client \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /var/lib/pgdrain --create-home pgdrain
COPY --from=build /source/target/release/pgdrain /usr/local/bin/pgdrain

# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/pgdrain
# Mode, holds and what was begun survive a restart here.
VOLUME /var/lib/pgdrain
# Loopback inside a container is reached by nobody. The admin interface stays on its loopback.
ENV PGDRAIN_LISTEN=0.0.0.0:6432 \
    STATE_DIRECTORY=/var/lib/pgdrain
EXPOSE 6432

# A held database is healthy: this asks only whether the proxy answers.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["pgdrain", "status"]
ENTRYPOINT ["pgdrain"]
CMD ["serve"]
