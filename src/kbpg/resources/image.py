"""Images: built once, recognised by a label, sent to the hosts that lack them.

An image's identity is the digest of what it is built from (`kbpg.inputs`), so an image with the right label
on any host is as good as one built now, and another builder does not restart a cluster.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.engine.tee import tee
from kbpg.errors import HostError, KbpgError
from kbpg.facts import Fact, Facts, NotKnown
from kbpg.hosts.port import Writer
from kbpg.model import Change, Resource, Want
from kbpg.resources.docker import LABEL_INPUTS, ImagesFact

BUILD_TIMEOUT = 1800.0
"""Seconds for one build: packages come over the network."""
SEND_TIMEOUT = 1800.0
"""Seconds for one host to take its images: 200 MB over a slow line."""
ZSTD = ["sh", "-c", "command -v zstd"]
_ELSEWHERE = (
    "bring it back, or let the controller build: Docker there, and build.on: controller in the inventory"
)


@dataclass(frozen=True)
class ImageSpec:
    """An image: its name, the digest of its inputs, and how to build it.

    `files` returns the build context; it is called only for a build, as a wheel house is large.
    """

    name: str
    inputs: str
    files: Callable[[], Mapping[str, bytes]]
    options: tuple[str, ...] = ()

    def build(self) -> list[str]:
        """Return the command that builds it from a context on standard input, with the classic builder."""
        label = f"{LABEL_INPUTS}={self.inputs}"
        argv = ["env", "DOCKER_BUILDKIT=0", "docker", "build", "--force-rm", "--tag", self.name]
        return [*argv, "--label", label, *self.options, "-"]

    def context(self) -> bytes:
        """Return the build context as a tar archive, the same bytes for the same files."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, content in sorted(self.files().items()):
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(content), 0o644
                tar.addfile(info, io.BytesIO(content))
        return archive.getvalue()


class Images(Resource):
    """Every connected host of `hosts` has every image of `specs`. Lives on the controller: one build serves all.

    So `--limit` does not leave it out, and a host that is not connected is no difference: without `--limit` no run
    begins then, and with it the others are to be mended before that one is back.
    """

    def __init__(self, name: str, specs: Sequence[ImageSpec], hosts: Sequence[str]) -> None:
        self.id = f"image:{name}"
        self._specs, self._hosts = tuple(specs), tuple(hosts)
        self._fact = ImagesFact(tuple(spec.name for spec in specs))

    def asks(self, place: str, context: Context) -> Iterable[tuple[str, Fact[object]]]:
        """Ask every host that needs the images."""
        return [(host, self._fact) for host in self._hosts]

    def want(self, facts: Facts) -> Want:
        """Return the inputs' digest for each host and image."""
        return {f"{host} {s.name}": s.inputs[:12] for host in self._connected(facts) for s in self._specs}

    def have(self, facts: Facts) -> Want:
        """Return what each host has. Raises `NotKnown` where the Docker of a connected one does not answer."""
        return {
            f"{host} {s.name}": facts.get(self._fact, host).get(s.name, "missing")[:12] or "not kbpg's"
            for host in self._connected(facts)
            for s in self._specs
        }

    def _connected(self, facts: Facts) -> list[str]:
        return [host for host in self._hosts if not facts.away(self._fact, host)]

    def fix(self, site: Site, change: Change) -> None:
        """Build where no image is, then send in parallel to the hosts that lack one."""
        lacking = [host for host in self._connected(site.facts) if not self._complete(site.facts, host)]
        source = self._source(site, lacking) or self._build(site)
        targets = [site.hosts[name] for name in lacking if site.hosts[name] is not source]
        if targets:
            names = ", ".join(host.name for host in targets)
            site.say(f"sending {', '.join(s.name for s in self._specs)} from {source.name} to {names}")
            self._send(source, targets)

    def _complete(self, facts: Facts, host: str) -> bool:
        found = facts.get(self._fact, host)
        return all(found.get(spec.name) == spec.inputs for spec in self._specs)

    def _source(self, site: Site, lacking: Sequence[str]) -> Writer | None:
        """Return who has all images already: the controller, or a host; None when they must be built."""
        if self._present(site.controller):
            return site.controller
        return next((site.hosts[h] for h in self._hosts if h not in lacking and h in site.hosts), None)

    def _present(self, host: Writer) -> bool:
        try:
            found = self._fact.parse(host.read([self._fact])[self._fact.key])
        except NotKnown:
            return False
        return all(found.get(spec.name) == spec.inputs for spec in self._specs)

    def _build(self, site: Site) -> Writer:
        where = _builder(site)
        for spec in self._specs:
            site.say(f"building {spec.name} on {where.name}")
            where.run(spec.build(), stdin=spec.context(), timeout=BUILD_TIMEOUT)
        return where

    def _send(self, source: Writer, targets: Sequence[Writer]) -> None:
        """Save once, compress once, load everywhere at the same time."""
        names = [spec.name for spec in self._specs]
        zstd = all(host.run(ZSTD, check=False).ok for host in (source, *targets))
        pack = 'docker save "$@" | ' + ("zstd -q -1 -T0" if zstd else "gzip -1")
        load = ["sh", "-c", "zstd -dc | docker load"] if zstd else ["docker", "load"]
        packed = source.stream(["sh", "-c", pack, "sh", *names], timeout=SEND_TIMEOUT)
        tee(packed, [partial(_load, host, load) for host in targets])


def _load(host: Writer, argv: Sequence[str], chunks: Iterator[bytes]) -> None:
    host.run(argv, stdin=chunks, timeout=SEND_TIMEOUT)


def _builder(site: Site) -> Writer:
    """Return where to build: as the inventory says, or the controller with Docker, else the first db host.

    Raises `KbpgError` where the controller must and has no Docker, `HostError` where the host is not connected.
    """
    build, first = site.context.inventory.build, site.context.inventory.db[0].name
    if build.on != "first_db" and site.controller.run(["docker", "version"], check=False).ok:
        return site.controller
    if build.on == "controller":
        raise KbpgError(
            "the controller has no usable Docker to build with",
            hint="start it, or set build.on: first_db in the inventory",
        )
    if first not in site.hosts:
        raise HostError(first, "is not connected, and the images are to be built there", hint=_ELSEWHERE)
    return site.hosts[first]
