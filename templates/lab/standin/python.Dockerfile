# Stand-in for python:3.12-slim-trixie: a CPython 3.12 found on the machine, on Debian's libraries.
FROM debian:trixie-slim
ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      ca-certificates netbase tzdata \
      libbz2-1.0 libffi8 liblzma5 libncursesw6 libreadline8t64 libsqlite3-0 libssl3t64 libuuid1 zlib1g \
 && rm -rf /var/lib/apt/lists/*
COPY python/ /usr/local/
RUN ldconfig \
 && python3 -c "import bz2, ctypes, hashlib, lzma, readline, sqlite3, ssl, uuid, zlib" \
 && pip --version \
 && find /usr/local -depth -name __pycache__ -exec rm -rf {} +
CMD ["python3"]
