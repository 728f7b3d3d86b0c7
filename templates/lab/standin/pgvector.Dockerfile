# Stand-in for pgvector/pgvector:*-pg16-trixie: server, tools and extension from two packages of one
# minor version. User, paths, volume and stop signal are the public image's; its entrypoint is not there.
FROM debian:trixie-slim
RUN groupadd --system --gid 999 postgres \
 && useradd --system --gid 999 --uid 999 --home-dir /var/lib/postgresql --shell /bin/bash postgres \
 && install -d -o postgres -g postgres -m 1777 /var/lib/postgresql \
 && install -d -o postgres -g postgres -m 1777 /var/lib/postgresql/data \
 && install -d -o postgres -g postgres -m 3777 /var/run/postgresql \
 && mkdir -p /usr/share/postgresql \
 && ln -s /usr/lib/postgresql/16/share/postgresql /usr/share/postgresql/16
COPY postgresql/ /usr/lib/postgresql/16/
ENV PG_MAJOR=16 PGDATA=/var/lib/postgresql/data LANG=C.UTF-8 \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/16/bin
ARG SERVER_VERSION
# A tool that finds another libpq, or a server of another minor version, fails here and not in a cluster.
RUN set -e; ldconfig; \
    for file in /usr/lib/postgresql/16/bin/* /usr/lib/postgresql/16/lib/postgresql/*.so; do \
      if ldd "$file" 2>&1 | grep "not found"; then echo "$file misses libraries" >&2; exit 1; fi; \
    done; \
    for tool in postgres psql pg_basebackup pg_rewind pg_controldata; do \
      "$tool" --version | grep -F " ${SERVER_VERSION}"; \
    done
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
EXPOSE 5432
CMD ["postgres"]
