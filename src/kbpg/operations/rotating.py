"""New passwords into force, in an order in which nobody who has the right one is refused for long.

The context has the new passwords as its credentials, and those of before as `former`. Everything is done by
stages of the steps, which compare before they change, so a rotation that was killed is ended by the same calls:

1. The roles that db hosts log in with (superuser, replicator, rewind_user), then Patroni's files and a reload,
   node by node, which is what REST's password needs too. Connections that exist go on, streaming replication
   included. A replica that connects anew in between is refused, and tries again every wal_retrieve_retry_interval
   (500 ms, `tuning.py`) until its Patroni has read the file, which a request makes it do at once. Patroni itself
   comes over the socket, where no password is asked for.
2. PgBouncer's own role, together with its files on all proxies. PgBouncer looks every client's password up with it,
   over connections that it opens and closes as it likes; one that it opens between the ALTER ROLE and the reload is
   refused, and clients that are logging in get an error. So the files are written first, then clients wait (PAUSE:
   it closes those connections, and logins wait as queries do), the role is altered, each PgBouncer reloads, each
   node has replayed the role, and clients go on. The guard of the pause lets them go on if kbpg is killed; between
   the ALTER ROLE and the reload, a fraction of a second, that leaves logins refused until the rotation is resumed.
3. The roles of applications, last, because from their ALTER ROLE on the old password is refused and nobody has the
   new one yet. Sessions that exist go on. PgBouncer keeps the keys of the last login of each user in each database,
   and opens server connections with them: the proof logs in to each of its pools, so that sessions of before get
   new server connections too.
4. Raft's password, which is rotated by itself: `raft_rotation.py`.
5. The proof: each new password is let in, each old one refused (`rotation_proof.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from kbpg.credentials import rotation
from kbpg.engine.outcome import Report
from kbpg.engine.site import Site
from kbpg.errors import HostError, KbpgError, NotConverged
from kbpg.layout import POOLER_USER
from kbpg.model import Status, Step
from kbpg.operations import raft_rotation
from kbpg.operations.candidates import leader
from kbpg.operations.clients_wait import Manner, clients_wait
from kbpg.operations.patroni_change import wake
from kbpg.operations.rotation_proof import prove
from kbpg.patroni import NodeFact
from kbpg.resources.sql_facts import RolesFact
from kbpg.scram import matches
from kbpg.steps import rotating as steps

OF_SERVERS = frozenset(
    {"POSTGRES_SUPERPASS", "POSTGRES_REPLICATION_PASS", "POSTGRES_REWIND_PASS", "PATRONI_REST_PASS"}
)
"""Names of the passwords that are on the db hosts."""
OF_POOLER = "PGBOUNCER_AUTH_PASS"

Apply = Callable[[Sequence[Step]], Report]
"""Makes steps so, with the new credentials, and says how that went."""


class Stopped(KbpgError):
    """A step of the rotation failed; the report says where."""

    def __init__(self, report: Report) -> None:
        super().__init__("the passwords are not all in force yet")
        self.report = report


def rotate(site: Site, names: Collection[str], apply: Apply, manner: Manner) -> list[str]:
    """Put the new passwords of `names` into force, prove them, and return what was proven and what it cost, in lines.

    `names` are one of `rotation.parts`. What a rotation that was killed has done stays done. Raises `Stopped`,
    `NotConverged` where clients cannot be made to wait or a proof fails, `HostError`.
    """
    cost: list[str] = []
    if rotation.ALONE in names:
        cost = raft_rotation.rotate(site, lambda host: _made(apply([steps.node_file(host)])), manner)
        # Their files are on all nodes by now, and read; what was killed before it was noted is noted here
        _made(apply([steps.SERVERS_STEP]))
    if OF_SERVERS & set(names):
        _made(apply([steps.SERVERS_STEP]))
        _take_at_once(site)
    if OF_POOLER in names:
        _made(apply([steps.POOLER_FILE_STEP]))
        _switch_pooler(site, apply, manner)
        _made(apply([steps.ANSWERS_STEP]))
    if set(names) - OF_SERVERS - {OF_POOLER, rotation.ALONE}:
        _made(apply([steps.APPLICATIONS_STEP]))
    site.say("proving the new passwords")
    return [*prove(site, names), *cost]


def _made(report: Report) -> None:
    if report.failed:
        raise Stopped(report)


def _take_at_once(site: Site) -> None:
    """Let each Patroni do now what it does in its next round: take the new settings, write its password file."""
    for name in site.context.db_names:
        with suppress(HostError):  # then it is the next round, up to loop_wait later
            wake(site.context, site.hosts[name])


def _switch_pooler(site: Site, apply: Apply, manner: Manner) -> None:
    """Alter PgBouncer's role and reload all PgBouncers while clients wait.

    Where a rotation was killed after the role was altered, waiting would only make it longer for those who log in.
    """
    if _altered(site):
        _made(apply([steps.POOLER_SWITCH_STEP]))
        return
    with clients_wait(site, leader(site), "a new password for PgBouncer", manner, stays=True) as clients:
        report = apply([steps.POOLER_SWITCH_STEP])
        clients.go_on()
    _made(report)
    problems = [f"{name}: {text}" for name, text in clients.problems.items()]
    if problems:
        raise NotConverged("clients may wait longer", detail=problems, hint="kbpg status")


def _altered(site: Site) -> bool:
    """Return whether the leader has the new password of PgBouncer's role already."""
    context, node = site.context, NodeFact(site.context.inventory.ports.patroni)
    fact = RolesFact(context.superuser())
    on = leader(site)
    found = site.look({on: (fact, node)}).known(fact, on) or {}
    verifier = (found.get(POOLER_USER) or {}).get("verifier")
    return matches(verifier or "", context.credentials.pgbouncer_password)


def in_the_way(report: Report) -> list[str]:
    """Return what is not as the old file wants it, from a plan with that one; empty where a rotation may begin."""
    odd = [outcome for outcome in report.outcomes if outcome.status is not Status.OK]
    return [f"{each.place}: {each.resource}: {'; '.join(each.lines) or each.status}" for each in odd]
