"""Raft inside Patroni: quorum, its members, their password."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from kbpg.health.check import CONTAINER_FAULT, HOST_FAULT, Check, Seen
from kbpg.health.checks.causes import damaged_raft_log
from kbpg.health.checks.containers import last_lines
from kbpg.health.finding import Action, Repair, Severity
from kbpg.health.snapshot import Snapshot
from kbpg.layout import PATRONI
from kbpg.model import CLUSTER
from kbpg.operations.guards import why_not_away
from kbpg.raft_admin import addresses, consensus

DOWN = (*CONTAINER_FAULT, "raft-rebuild-unfinished", "raft-password", "raft-silent", "patroni-silent")
"""What explains that a member is not in touch with the others."""


def members(snapshot: Snapshot) -> dict[str, str]:
    """Return the addresses ("address:port") that the inventory gives the members, and their hosts' names."""
    return {address: name for name, address in addresses(snapshot.context).items()}


def password(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the members that speak with another password than the credentials file has."""
    whys = {host: snapshot.why_not(snapshot.ask.raft, host) for host in snapshot.db}
    odd = [host for host, why in whys.items() if _another(snapshot, host, why)]
    if odd and len(odd) == len(snapshot.context.db_names):
        path = snapshot.inventory.credentials_path
        yield Seen(
            CLUSTER,
            f"all members speak with another password than {path} has",
            (f"seen on {', '.join(odd)}", "restore the file from a backup"),
            "{kbpg} credentials path",
            about=tuple(odd),
        )
        return
    for host in odd:
        yield Seen(
            host,
            whys[host],
            last_lines(snapshot, host, PATRONI),
            repair=Repair(
                Action.RESTART_PATRONI,
                host,
                f"write the files of step 02 on {host} again and restart its container {PATRONI}",
                "this node is away for some seconds",
                {"step": "02"},
            ),
        )


def _another(snapshot: Snapshot, host: str, why: str) -> bool:
    """Return whether a member has another password; one that just starts, or ends, closes connections too."""
    if "another password" not in why or not _runs(snapshot, host):
        return False
    return "closed" not in why or not snapshot.fresh(host, PATRONI)


def _runs(snapshot: Snapshot, host: str) -> bool:
    return snapshot.state(host, PATRONI) == "running"


def damaged(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the nodes whose Patroni ends at each start, because their Raft log cannot be read."""
    path = snapshot.paths.raft
    for host in snapshot.db:
        if snapshot.raft(host) or snapshot.state(host, PATRONI) not in ("running", "restarting"):
            continue
        if found := damaged_raft_log(snapshot, host):
            said, evidence = found
            repair, remedy = _renewed(snapshot, host)
            yield Seen(
                host,
                f"Patroni ends as soon as it is started: the log in {path} cannot be read ({said})",
                evidence,
                remedy,
                repair=repair,
            )


def _renewed(snapshot: Snapshot, host: str) -> tuple[Repair | None, str]:
    """Return the repair and the remedy of a damaged log; none of the first where the others have no quorum."""
    seen = consensus(snapshot.facts, snapshot.context)
    if why_not_away(host, seen.members[host], tuple(snapshot.leaders), seen.answering):
        whole = not snapshot.unreachable.keys() & set(snapshot.context.db_names)
        return None, "{kbpg} raft rebuild" if whole and not seen.quorate else "{kbpg} raft status"
    will = (
        f"stop {PATRONI} on {host}, move its Raft log aside, and start it with an empty one, which its partners "
        "fill; the data stays as it is"
    )
    risk = "one more failure meanwhile and there is no quorum"
    return Repair(Action.RENEW_RAFT_LOG, host, will, risk), ""


def silent(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the members that do not answer though their container runs."""
    for host in snapshot.db:
        why = snapshot.why_not(snapshot.ask.raft, host)
        if why and not _another(snapshot, host, why) and _runs(snapshot, host):
            remedy = snapshot.on_host(host, f"docker logs --tail 50 {PATRONI}")
            severity = Severity.WARNING if snapshot.fresh(host, PATRONI) else None
            yield Seen(host, why, last_lines(snapshot, host, PATRONI), remedy, severity=severity)


def no_quorum(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield that no member that can be seen is in touch with a majority."""
    seen = consensus(snapshot.facts, snapshot.context)
    found = seen.answering
    if not found or seen.quorate:
        return
    names = members(snapshot)
    away = {names.get(partner, partner) for status in found.values() for partner in status.away}
    lines = [
        f"{host}: term {status.term}, commit {status.commit_index}, in touch with "
        + (", ".join(names.get(p, p) for p, there in status.partners.items() if there) or "nobody")
        for host, status in found.items()
    ]
    about = tuple(sorted(away & set(names.values()))) or (CLUSTER,)
    yield Seen(
        CLUSTER,
        f"no quorum: {', '.join(sorted(away)) or 'the others'} not in touch",
        tuple(lines),
        about=about,
    )


def isolated(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the members without a quorum while others have one."""
    seen = consensus(snapshot.facts, snapshot.context)
    others = ", ".join(seen.quorate)
    for host, status in seen.answering.items():
        if others and not status.has_quorum:
            lines = tuple(f"{p}: {'connected' if there else 'away'}" for p, there in status.partners.items())
            yield Seen(host, f"sees no quorum, while {others} do", lines)


def unreachable(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the members that others, who are themselves in touch with a majority, cannot reach.

    Of two that do not reach each other the later in the inventory is not named for that: it is one cut.
    """
    seers: dict[str, list[str]] = {}
    for host in snapshot.db:
        status = snapshot.raft(host)
        for partner, there in (status.partners if status and status.has_quorum else {}).items():
            if not there:
                seers.setdefault(partner, []).append(host)
    names = members(snapshot)
    missed = {names[partner]: hosts for partner, hosts in seers.items() if partner in names}
    addresses = {name: address for address, name in names.items()}
    order = snapshot.context.db_names
    for name in order:
        mutual = [host for host in missed.get(name, ()) if name in missed.get(host, ())]
        later = order[order.index(name) :]
        hosts = [host for host in missed.get(name, ()) if host not in mutual or host in later]
        if not hosts:
            continue
        others = "".join(f"; nor it {host}'s" for host in hosts if host in mutual)
        partner = addresses[name]
        yield Seen(
            name,
            f"{', '.join(hosts)} cannot reach its member of Raft at {partner}{others}",
            remedy=snapshot.on_host(hosts[0], f"timeout 3 bash -c '</dev/tcp/{partner.replace(':', '/')}'"),
            about=(name,),
        )


def ghosts(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the members that the inventory does not know."""
    names = members(snapshot)
    seers: dict[str, list[str]] = {}
    for host in snapshot.db:
        status = snapshot.raft(host)
        for partner in status.partners if status else ():
            if partner not in names:
                seers.setdefault(partner, []).append(host)
    for partner, hosts in seers.items():
        total = len(names) + len(seers)
        yield Seen(
            CLUSTER,
            f"{partner} is a member of the consensus, and no host of the inventory",
            (
                f"seen by {', '.join(hosts)}",
                f"with {total} members a quorum is {total // 2 + 1}, and the inventory has {len(names)} hosts",
            ),
            f"{{kbpg}} raft remove-member {shlex.quote(partner)}",
            repair=Repair(
                Action.REMOVE_RAFT_MEMBER,
                CLUSTER,
                f"remove {partner} from the consensus",
                "none, if that host is gone for good",
                {"member": partner},
            ),
            subject=partner,
        )


def missing(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the members that do not count a host of the inventory among their partners."""
    names = members(snapshot)
    for host in snapshot.db:
        status = snapshot.raft(host)
        if status is None:
            continue
        lacking = [name for address, name in names.items() if name != host and address not in status.partners]
        if lacking:
            yield Seen(host, f"does not know {', '.join(lacking)} as members", tuple(status.partners))


def deprecated(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield that the consensus store is one that Patroni's authors have given up."""
    yield Seen(CLUSTER, f"Patroni {snapshot.inventory.versions.patroni} with Raft as its consensus store")


CHECKS = (
    Check(
        "raft-password",
        "wrong Raft password",
        Severity.CRITICAL,
        "members with different passwords do not hear each other: this node does not count for the quorum",
        "{kbpg} diagnose --repair --host {host}",
        password,
        explained_by=HOST_FAULT,
    ),
    Check(
        "raft-log-damaged",
        "damaged Raft log",
        Severity.CRITICAL,
        "a host that loses power may leave the log cut off or full of zeros: Patroni cannot start on it, and this "
        "node does not count for the quorum; where the others have one, they have all that was in it",
        "{kbpg} diagnose --repair --host {host}",
        damaged,
        explained_by=(*HOST_FAULT, "raft-rebuild-unfinished"),
        part=PATRONI,
    ),
    Check(
        "raft-silent",
        "Raft does not answer",
        Severity.CRITICAL,
        "this node does not count for the quorum",
        "docker logs --tail 50 patroni",
        silent,
        explained_by=(*CONTAINER_FAULT, "raft-rebuild-unfinished", "patroni-silent"),
    ),
    Check(
        "raft-no-quorum",
        "Raft has no quorum",
        Severity.CRITICAL,
        "without a majority there is no leader, and nothing can be written; with one member more that is there, or "
        "reached again, a leader follows by itself",
        "{kbpg} raft status; bring back, or reach, the hosts that are away. Last of all, where they are gone for "
        "good and switched off (a leader there would go on beside the new one): {kbpg} raft rebuild",
        no_quorum,
        explained_by=DOWN,
    ),
    Check(
        "raft-isolated",
        "a member sees no quorum",
        Severity.CRITICAL,
        "this node is cut off from the others: what it says of the cluster is old, and it cannot take over",
        "{kbpg} raft status",
        isolated,
        explained_by=DOWN,
    ),
    Check(
        "raft-unreachable",
        "a member of Raft cannot be reached by others",
        Severity.WARNING,
        "one more failure and there is no quorum",
        "{kbpg} raft status",
        unreachable,
        explained_by=(*DOWN, "raft-isolated", "raft-no-quorum"),
    ),
    Check(
        "raft-ghost",
        "ghost in the quorum",
        Severity.WARNING,
        "a member that does not exist counts for the quorum: the next loss of a node may end it",
        "{kbpg} raft remove-member ADDRESS:PORT",
        ghosts,
        explained_by=(),
    ),
    Check(
        "raft-member-missing",
        "a member does not know another",
        Severity.WARNING,
        "the members do not agree on who is one, so they do not agree on what a quorum is",
        "{kbpg} raft status",
        missing,
        explained_by=(*DOWN, "raft-no-quorum"),
    ),
    Check(
        "raft-deprecated",
        "Raft in Patroni is deprecated",
        Severity.NOTICE,
        "Patroni's authors deprecated it in 3.0 and fix nothing in it; kbpg pins the versions it was tested with",
        "none needed; see docs/adr/0003-raft-inside-patroni.md",
        deprecated,
        explained_by=(),
    ),
)
