"""pgvector: in the database and on disk, on every node, at the wanted version."""

from __future__ import annotations

from collections.abc import Iterable

from kbpg.health.check import NODE_FAULT, Check, Seen
from kbpg.health.checks.overrides import overridden, reset
from kbpg.health.checks.postgres import by_step
from kbpg.health.finding import Severity
from kbpg.health.snapshot import Snapshot
from kbpg.inventory import version_tuple
from kbpg.inventory.rules import FIXED_HNSW
from kbpg.layout import PATRONI
from kbpg.model import CLUSTER

WORKERS = "max_parallel_maintenance_workers"
NEWER_PGVECTOR = "0.8.3"
"""0.8.2 fixes the overflow in parallel HNSW builds (CVE-2026-3172), 0.8.3 a corruption of HNSW by vacuum."""


def extension_missing(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield that the database has no pgvector, or a replica does not have what the leader has."""
    found, leader = _versions(snapshot), snapshot.leader
    name = snapshot.inventory.cluster.database
    if leader and leader in found and found[leader] is None:
        repair = by_step("05", f"create the extension vector in {name}")
        yield Seen(CLUSTER, f"the database {name} has no extension vector", repair=repair)
        return
    for host, version in found.items():
        if version is None:
            yield Seen(host, f"the database {name} has no extension vector here", remedy="{kbpg} status")


def _versions(snapshot: Snapshot) -> dict[str, str | None]:
    """Return pgvector's version in the database on every node that answers."""
    known = {host: snapshot.facts.known(snapshot.ask.extensions, host) for host in snapshot.db}
    return {host: dict(rows).get("vector") for host, rows in known.items() if rows is not None}


def _on_disk(snapshot: Snapshot) -> dict[str, set[str]]:
    known = {host: snapshot.facts.known(snapshot.ask.views.available, host) for host in snapshot.db}
    return {host: {str(row[1]) for row in rows} for host, rows in known.items() if rows is not None}


def extension_version(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the nodes with another version than the inventory's, in the database or on disk."""
    wanted, disk = snapshot.inventory.versions.pgvector, _on_disk(snapshot)
    for host, version in _versions(snapshot).items():
        there = disk.get(host, {wanted})
        if wanted not in there:
            shown = ", ".join(sorted(there)) or "none"
            yield Seen(
                host,
                f"pgvector {shown} on disk, the inventory says {wanted}",
                (f"in the database: {version}",),
                remade(snapshot, host),
                severity=Severity.CRITICAL,
            )
        elif version is not None and version != wanted:
            yield Seen(
                host,
                f"pgvector {version} in the database, the inventory says {wanted}",
                repair=by_step(
                    "05",
                    f"ALTER EXTENSION vector UPDATE TO '{wanted}'",
                    "pgvector has no way back to an older version",
                ),
            )


def remade(snapshot: Snapshot, host: str) -> str:
    """Return the commands that make a container of the wanted specification anew: files in it were changed."""
    other = f"docker exec {PATRONI} patronictl switchover --force"
    first = f"{snapshot.on_host(host, other)} && " if host == snapshot.leader else ""
    gone = snapshot.on_host(host, f"docker stop {PATRONI} && docker rm {PATRONI}")
    return f"{first}{gone} && {{kbpg}} step 02 --limit {host}"


def extension_differs(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield that nodes have different versions of pgvector on disk."""
    disk = {host: max(found, key=version_tuple) for host, found in _on_disk(snapshot).items() if found}
    if len(set(disk.values())) > 1:
        versions = list(disk.values())
        usual = max(versions, key=versions.count)
        odd = [host for host, version in disk.items() if version != usual]
        yield Seen(
            CLUSTER,
            "pgvector on disk: " + ", ".join(f"{version} on {host}" for host, version in disk.items()),
            remedy=remade(snapshot, odd[0]),
            about=tuple(odd),
        )


def vulnerable(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield that pgvector has a known hole: a notice where parallel index builds are off."""
    version = snapshot.inventory.versions.pgvector
    if not (0, 6, 0) <= version_tuple(version) < FIXED_HNSW:
        return
    exposed = [
        host for host in snapshot.db if snapshot.settings(host).get(WORKERS, ("0", "", False))[0] != "0"
    ]
    if exposed:
        by_hand = [host for host in exposed if WORKERS in overridden(snapshot, host)]
        usual = {
            "remedy": "{kbpg} step 02",
            "repair": by_step("02", f"set {WORKERS} = 0, by a reload", "index builds take longer"),
        }
        yield Seen(
            CLUSTER,
            f"pgvector {version}, and parallel index builds are on ({', '.join(exposed)})",
            severity=Severity.WARNING,
            **(reset(snapshot, by_hand[0], WORKERS) if by_hand else usual),
        )
    else:
        yield Seen(CLUSTER, f"pgvector {version}; parallel index builds, which it takes, are off")


CHECKS = (
    Check(
        "extension-missing",
        "extension missing",
        Severity.CRITICAL,
        "vectors cannot be stored or searched",
        "{kbpg} step 05",
        extension_missing,
        explained_by=(*NODE_FAULT, "database-missing"),
    ),
    Check(
        "extension-version",
        "pgvector is not at the wanted version",
        Severity.WARNING,
        "the database does not have the version that the inventory promises",
        "{kbpg} step 05",
        extension_version,
        explained_by=(*NODE_FAULT, "container-old", "container-unmanaged"),
    ),
    Check(
        "extension-differs",
        "pgvector differs between nodes",
        Severity.CRITICAL,
        "after a failover the database would load another library than the one its functions were made for",
        "{kbpg} step 02",
        extension_differs,
        explained_by=("extension-version", "container-old", "container-unmanaged"),
    ),
    Check(
        "pgvector-vulnerable",
        "pgvector with a known vulnerability",
        Severity.NOTICE,
        "pgvector 0.6.0 to 0.8.1 overflow a buffer in parallel HNSW builds (CVE-2026-3172); 0.8.2 fixes it, and "
        f"{NEWER_PGVECTOR} a corruption of HNSW indexes by vacuum too",
        f"set versions.pgvector: {NEWER_PGVECTOR} in the inventory, then {{kbpg}} apply-all",
        vulnerable,
        explained_by=(),
    ),
)
