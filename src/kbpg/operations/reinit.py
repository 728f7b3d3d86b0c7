"""A replica is given a new copy of the leader's data: through Patroni, or with the old data moved aside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from kbpg.engine.site import Site
from kbpg.errors import HostError, KbpgError, NotConverged, Refused
from kbpg.facts import NotKnown
from kbpg.hosts.by_hand import ssh_command
from kbpg.layout import PATRONI, PATRONI_STOP, layout
from kbpg.operations.guards import Standing, needed, why_no_room, why_not_away, why_not_replace
from kbpg.operations.patroni_change import change_by_rest
from kbpg.operations.raft_note import refuse_amid_rebuild
from kbpg.operations.standing import Watch
from kbpg.patroni import NodeFact, streaming_of
from kbpg.raft_admin import addresses
from kbpg.resources.container import log_lines
from kbpg.resources.docker import DB_CONTAINERS, ContainersFact

CLONE_RATE = 10 << 20
"""Bytes a second that a clone makes at least; what is slower goes on, but is not waited for."""
CLONE_START = 180.0
"""Seconds, besides, for Patroni to start, clone, and catch up."""


def reinitialize(site: Site, host: str) -> str:
    """Replace the data of the replica `host` by a clone of the leader's and return what was done.

    Where Patroni answers it does so itself (and removes the old data); where it does not, the old data is moved
    aside and kept. Raises `Refused` with the reason, `HostError`, or `NotConverged` when it does not stream.
    """
    watch = Watch(site.context, host)
    seen = allowed(site, watch, host)
    if site.facts.known(watch.node, host) is None:
        return set_aside(site, host)
    _room(seen, keep=False)
    site.say(f"{host}: Patroni clones it anew from {seen.leader}, {seen.leader_size >> 20} MB")
    # Once more, as close to the act as it can be
    allowed(site, watch, host)
    node = site.facts.known(watch.node, host)
    change_by_rest(site.context, site.hosts[host], "POST", "/reinitialize", {"force": True})
    # Patroni answers before it begins: what streams now may be the old data
    await_streaming(site, host, clone=seen.leader_size, former=node.started if node else "")
    return f"{host} was cloned anew from {seen.leader} and streams"


def set_aside(site: Site, host: str) -> str:
    """Move the data of the replica `host` aside, let Patroni clone it anew, and return what was done.

    The old data stays beside the new as `pgdata.broken-<UTC time>`. Raises like `reinitialize`.
    """
    watch = Watch(site.context, host)
    seen = allowed(site, watch, host)
    _room(seen, keep=True)
    _away(site, watch, seen)
    path = layout(site.context).pgdata
    aside = f"{path}.broken-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    with stopped(site, host):
        seen = allowed(site, watch, host)
        site.hosts[host].run(["mv", "-T", path, aside])
    site.say(f"{host}: the old data is kept in {aside}")
    await_streaming(site, host, clone=seen.leader_size)
    gone = by_hand(site, host, f"rm -rf {aside}")
    return f"{host} was cloned anew from {seen.leader}; once it is not needed: {gone}"


@contextmanager
def stopped(site: Site, host: str) -> Iterator[None]:
    """Stop Patroni, where there is a container, for the length of the context, and start it whatever happens.

    Docker by itself does not start what was stopped by hand. Raises what went wrong first, and that it could not be
    started then is added to it.
    """
    there = PATRONI in _containers(site, host, DB_CONTAINERS)
    # A stop that does not end in time may end later: a start before that would do nothing
    again = ["restart", "--time", str(PATRONI_STOP)]
    try:
        if there:
            _docker(site, host, "stop", "--time", str(PATRONI_STOP))
        again = ["start"]
        yield
    except BaseException as error:
        if there:
            _start_after(error, site, host, again)
        raise
    if there:
        _docker(site, host, *again)


def _docker(site: Site, host: str, *words: str) -> None:
    site.hosts[host].run(["docker", *words, PATRONI], timeout=PATRONI_STOP + 30)


def _start_after(error: BaseException, site: Site, host: str, words: Sequence[str]) -> None:
    """Start Patroni, and add to `error` that this could not be done."""
    try:
        _docker(site, host, *words)
    except HostError as problem:
        if isinstance(error, KbpgError):
            command = by_hand(site, host, f"docker start {PATRONI}")
            error.detail = (
                *error.detail,
                f"Patroni was not started again: {problem.reason}; once that is mended: {command}",
            )


def allowed(site: Site, watch: Watch, host: str) -> Standing:
    """Look, and return what was seen. Raises `Refused` where the data of `host` must not be replaced."""
    seen = watch.look(site)
    if why := why_not_replace(seen):
        raise Refused(f"the data on {host} is left alone: {why}", hint=_data_by_hand(site, host))
    return seen


def _data_by_hand(site: Site, host: str) -> str:
    path = layout(site.context).pgdata
    command = f"docker stop {PATRONI} && mv {path} {path}.old && docker start {PATRONI}"
    return (
        f"if you are sure that its data is not needed: {by_hand(site, host, command)}; the risk: if it is the best "
        "copy, what only it has is no longer served"
    )


def by_hand(site: Site, host: str, command: str) -> str:
    """Return the command line that runs `command` as root on the host."""
    inventory = site.context.inventory
    found = inventory.host(host)
    return ssh_command(host, str(found.address), inventory.ssh_for(found), command)


def _room(seen: Standing, *, keep: bool) -> None:
    if why := why_no_room(seen, keep=keep):
        raise Refused(
            f"not cloned: {why}",
            hint=f"make room for {needed(seen.leader_size) >> 20} MB on {seen.host}, then kbpg diagnose --repair",
        )


def _away(site: Site, watch: Watch, seen: Standing) -> None:
    member = addresses(site.context)[seen.host]
    refuse_amid_rebuild(site, seen.host)
    if why := why_not_away(seen.host, member, seen.leaders, watch.statuses(site)):
        raise Refused(f"Patroni on {seen.host} is not stopped: {why}", hint="kbpg raft status")


def _containers(site: Site, host: str, fact: ContainersFact) -> Mapping[str, Mapping[str, Any]]:
    """Return the host's containers, by name, as they are now. Raises `HostError` where Docker does not answer."""
    try:
        return site.look({host: (fact,)}).get(fact, host)
    except NotKnown as silence:
        raise HostError(host, silence.reason, hint="kbpg diagnose") from None


def await_streaming(
    site: Site, host: str, *, clone: int = 0, seconds: float = CLONE_START, former: str | None = None
) -> None:
    """Wait `seconds` at most until `host` streams from the leader, and longer for `clone` bytes copied before.

    `former` is when the postmaster of the data that is to be replaced was started ("": it did not say): then another
    one must run. Patroni stops PostgreSQL, clones, and only then starts it again (`_do_reinitialize`, patroni/ha.py).
    Raises `NotConverged` at the deadline, with what Patroni says and the last lines of its log, and the `HostError`
    of `host`, or of the node that led last, once its connection has ended; what was begun there goes on.
    """
    context = site.context
    node = NodeFact(context.inventory.ports.patroni)
    found, leads = None, ""
    for _ in site.looks(seconds + clone / CLONE_RATE, each=[host]):
        facts = site.look(dict.fromkeys(context.db_names, (node,)))
        found = facts.known(node, host)
        anew = former is None or (found is not None and found.started not in ("", former))
        for name in context.db_names:
            leader = facts.known(node, name)
            if not leader or not leader.leads:
                continue
            leads = name
            if anew and host in streaming_of(facts, node, name):
                return
        site.require_connected([leads])
    shown = f"Patroni says `{found.state}`" if found else "Patroni does not answer"
    if found and former and found.started == former:
        shown += ", and PostgreSQL still runs on the old data"
    raise NotConverged(
        f"{host} does not stream yet: {shown}",
        detail=log_lines(site, PATRONI, host),
        hint="kbpg status",
    )


def restart_patroni(site: Site, host: str) -> str:
    """Restart the Patroni container of the replica `host` and return what was done.

    Raises `Refused` where it leads, where nobody does, where Raft would have no quorum without it
    (`why_not_away`), or where a rebuild of the consensus is not finished; `HostError`, `NotConverged`.
    """
    watch = Watch(site.context, host)
    _away(site, watch, watch.look(site))
    site.hosts[host].run(
        ["docker", "restart", "--time", str(PATRONI_STOP), PATRONI], timeout=PATRONI_STOP + 60
    )
    await_streaming(site, host)
    return f"Patroni on {host} was restarted and streams"


def start_container(site: Site, host: str, name: str) -> str:
    """Start, or wake, a container as it is and return what was done.

    Raises `HostError`; `Refused` for Patroni's while a rebuild of the consensus is not finished.
    """
    if name == PATRONI:
        refuse_amid_rebuild(site, host)
    fact = DB_CONTAINERS if host in site.context.db_names else ContainersFact((name,))
    found = _containers(site, host, fact).get(name)
    if found is None:
        raise HostError(host, f"there is no container {name}")
    status = str(found["State"]["Status"])
    verb = {"paused": "unpause", "restarting": "restart"}.get(status, "start")
    if status != "running":
        site.hosts[host].run(["docker", verb, name], timeout=PATRONI_STOP + 60)
    return f"{name} on {host} was started"
