# What the public image has besides packages: apt leaves no caches behind, dpkg does not sync every file,
# no service starts while packages are installed.
ARG IMPORTED
FROM ${IMPORTED}
RUN printf '%s\n' \
      'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };' \
      'APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };' \
      'Dir::Cache::pkgcache "";' \
      'Dir::Cache::srcpkgcache "";' \
      'Acquire::GzipIndexes "true";' \
      'Acquire::Languages "none";' \
      'APT::AutoRemove::SuggestsImportant "false";' \
      > /etc/apt/apt.conf.d/docker-clean \
 && echo force-unsafe-io > /etc/dpkg/dpkg.cfg.d/docker-apt-speedup \
 && printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d \
 && chmod 0755 /usr/sbin/policy-rc.d
# The CA certificates of the machine that builds, where it trusts more than Debian's own: builds on this
# image reach the package archives through whatever the machine reaches them through.
COPY certificates/ /usr/local/share/ca-certificates/kbpg/
RUN update-ca-certificates
CMD ["bash"]
