"""Images: every host has those that its containers are made of."""

from __future__ import annotations

from collections.abc import Iterable

from kbpg.health.check import Check, Seen
from kbpg.health.checks.containers import step_for
from kbpg.health.finding import Severity
from kbpg.health.snapshot import Snapshot
from kbpg.layout import HAPROXY, PATRONI, PGBOUNCER
from kbpg.resources.docker import ImagesFact
from kbpg.steps.images import patroni_image, proxy_images


def image_missing(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the hosts that lack an image, or have another one by its name."""
    ours = (
        (PATRONI, patroni_image(snapshot.context)),
        *zip((HAPROXY, PGBOUNCER), proxy_images(snapshot.context), strict=True),
    )
    for host in snapshot.hosts:
        mine = [(c, spec) for c, spec in ours if c in snapshot.containers_fact(host.name).names]
        found = snapshot.facts.known(ImagesFact(tuple(spec.name for _, spec in mine)), host.name)
        for container, spec in mine:
            if found is None or found.get(spec.name) == spec.inputs:
                continue
            running = snapshot.state(host.name, container) == "running"
            seen = f"image {spec.name} is {'another one' if spec.name in found else 'not there'}"
            will = f"send the image {spec.name} to {host.name} from a host that has it, or build it"
            yield Seen(
                host.name,
                seen + (f", {container} runs on without it" if running else ""),
                severity=Severity.WARNING if running else Severity.CRITICAL,
                **step_for(snapshot, host.name, container, will),
            )


CHECKS = (
    Check(
        "image-missing",
        "image missing",
        Severity.CRITICAL,
        "without the image the container cannot be started again",
        "{kbpg} apply-all --limit {host}",
        image_missing,
    ),
)
