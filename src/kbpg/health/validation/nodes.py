"""The db hosts: PostgreSQL, Patroni, Raft, the database and its extension."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kbpg import sql
from kbpg.health.validation.acceptance import Acceptance, Verdict, failed, judged
from kbpg.health.validation.aside import DEADLINE, each
from kbpg.patroni import LEADER_ROLES
from kbpg.resources.sql_facts import RowsFact

if TYPE_CHECKING:
    from kbpg.health.validation.subject import Subject

CATCH_UP = 5.0
"""Seconds a replica has to replay what the leader had written when it was asked; measured: milliseconds."""
_LAG = """
select application_name, state, sync_state, greatest(pg_wal_lsn_diff(%s::pg_lsn, replay_lsn), 0)::bigint,
       pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint
  from pg_catalog.pg_stat_replication order by 1
"""
"""Bytes not replayed of what was written at a position, and of all that is written now."""
SYNCHRONOUS = ("sync", "quorum")


def configured(subject: Subject) -> Verdict:
    """Judge whether every db host runs the wanted PostgreSQL, all of one cluster."""
    problems, evidence, systems = [], [], set()
    want = subject.context.inventory.versions.postgresql
    for name in subject.context.db_names:
        rows, reason = subject.known(subject.snapshot.ask.views.node, name)
        if not rows:
            problems.append(f"{name}: {reason}")
            continue
        replica, _, system, version = rows[0][:4]
        systems.add(system)
        role = "replica" if replica else "leader"
        evidence.append(f"{name}: PostgreSQL {version}, {role}, system identifier {system}")
        if int(str(version).split(".")[0]) != want:
            problems.append(f"{name}: PostgreSQL {version}, wanted {want}")
    if len(systems) > 1:
        problems.append(f"{len(systems)} different system identifiers")
    return judged(problems, f"{len(evidence)} nodes, PostgreSQL {want}, one system identifier", evidence)


def leader(subject: Subject) -> Verdict:
    """Judge whether exactly one node leads, takes writes, and every node knows it."""
    snapshot = subject.snapshot
    name = snapshot.leader
    if name is None:
        who = " and ".join(snapshot.leaders)
        return failed(f"{who} say that they lead" if who else "no node says that it leads", *_states(subject))
    problems: list[str] = []
    agreed = 0
    for other in subject.context.db_names:
        members, _ = subject.known(snapshot.ask.cluster, other)
        if members is None:
            continue  # that a node does not answer is what other checks are about
        seen = next((m.name for m in members if m.role in LEADER_ROLES), "nobody")
        if seen != name:
            problems.append(f"{other} thinks that {seen} leads")
        agreed += 1
    rows, _ = subject.known(snapshot.ask.views.node, name)
    if not rows or rows[0][0]:
        problems.append(f"PostgreSQL on {name} does not take writes")
    return judged(problems, f"{name} leads and takes writes, {agreed} nodes agree", _states(subject))


def _states(subject: Subject) -> list[str]:
    lines = []
    for name in subject.context.db_names:
        node, reason = subject.known(subject.snapshot.ask.node, name)
        lines.append(f"{name}: {node.role}, {node.state}" if node else f"{name}: {reason}")
    return lines


def streaming(subject: Subject) -> Verdict:
    """Judge whether every replica streams from the leader and has replayed what the leader had written."""
    name = str(subject.snapshot.leader)
    login = subject.login(subject.context.inventory.ports.postgresql, admin=True, database="postgres")
    with sql.connect(subject.hosts[name], login) as connection:
        position = str(sql.ask(connection, "select pg_current_wal_lsn()")[0][0])
        ends = time.monotonic() + CATCH_UP
        while True:
            rows = connection.execute(_LAG, (position,)).fetchall()
            late = [row for row in rows if row[1] == "streaming" and row[3] is not None and row[3] > 0]
            if not late or time.monotonic() > ends:
                break
            time.sleep(0.05)
    found = {row[0]: row for row in rows}
    problems, evidence = [], []
    for other in subject.context.db_names:
        if other == name:
            continue
        if other not in found:
            problems.append(f"{other} does not stream")
            continue
        _, state, how, lag, now = found[other]
        evidence.append(
            f"{other}: {state} ({how}), {lag} bytes of {position} to replay, {now} bytes behind now"
        )
        if state != "streaming":
            problems.append(f"{other} is {state}, not streaming")
        elif lag is None or lag > 0:
            problems.append(f"{other} is {lag} bytes behind after {CATCH_UP:g} s")
    return judged(problems, f"{len(evidence)} replicas streaming, lag 0", evidence)


def synchronous(subject: Subject) -> Verdict:
    """Judge whether commits wait for a replica, where the inventory wants that."""
    mode = subject.context.inventory.cluster.synchronous
    rows, reason = subject.known(subject.snapshot.ask.views.streaming, str(subject.snapshot.leader))
    if rows is None:
        return failed(reason)
    setting = subject.snapshot.settings(str(subject.snapshot.leader)).get("synchronous_standby_names")
    evidence = [f"synchronous_standby_names = {setting[0] if setting else 'unknown'}"]
    evidence += [f"{row[0]}: {row[1]} ({row[2]})" for row in rows]
    count = sum(row[1] == "streaming" and row[2] in SYNCHRONOUS for row in rows)
    if mode == "off":
        return judged([], "asynchronous, as the inventory wants it: a failover may lose commits", evidence)
    problems = [] if count else ["no replica acknowledges commits: an RPO of 0 does not hold now"]
    return judged(problems, f"commits wait for a replica (1 of {count} candidates at least)", evidence)


def rest(subject: Subject) -> Verdict:
    """Judge whether Patroni answers on every db host, in the wanted version."""
    problems, evidence = [], []
    want = subject.context.inventory.versions.patroni
    for name in subject.context.db_names:
        node, reason = subject.known(subject.snapshot.ask.node, name)
        if node is None:
            problems.append(f"{name}: {reason}")
            continue
        evidence.append(f"{name}: Patroni {node.version}, {node.role}, {node.state}")
        if node.version != want:
            problems.append(f"{name}: Patroni {node.version}, wanted {want}")
        if node.paused:
            problems.append(f"{name}: Patroni is paused, it would not fail over")
    return judged(problems, f"all {len(evidence)} answer, Patroni {want}", evidence)


def raft(subject: Subject) -> Verdict:
    """Judge whether every member of Raft sees a quorum, every partner, and the same leader."""
    snapshot, names = subject.snapshot, subject.context.db_names
    problems, evidence, leaders, whole = [], [], set(), 0
    for name in names:
        status, reason = subject.known(snapshot.ask.raft, name)
        if status is None:
            problems.append(f"{name}: {reason}")
            continue
        away = status.away
        leaders.add(status.leader)
        evidence.append(
            f"{name}: quorum {'yes' if status.has_quorum else 'no'}, "
            f"{len(status.partners) - len(away)} of {len(names) - 1} partners, leader {status.leader},"
            f" term {status.term}, commit index {status.commit_index}"
        )
        if not status.has_quorum:
            problems.append(f"{name} sees no quorum")
        if away:
            problems.append(f"{name} does not reach {', '.join(away)}")
        if len(status.partners) != len(names) - 1:
            problems.append(f"{name} knows {len(status.partners)} partners, not {len(names) - 1}")
        whole += status.has_quorum and not away
    if len(leaders) > 1:
        problems.append(f"members name different leaders of Raft: {', '.join(map(str, leaders))}")
    return judged(problems, f"{whole}/{len(names)} members see all others", evidence)


def database(subject: Subject) -> Verdict:
    """Judge whether the application's database is there, in UTF-8, on the leader and its replicas."""
    name = subject.context.inventory.cluster.database
    login = subject.login(subject.context.inventory.ports.postgresql, admin=True, database="postgres")
    query = "select pg_encoding_to_char(encoding), datcollate, pg_database_size(oid) from pg_database"

    def look(host: str) -> str:
        with sql.connect(subject.hosts[host], login) as connection:
            row = connection.execute(f"{query} where datname = %s".encode(), (name,)).fetchone()
        return f"{row[0]}, {row[1]}, {row[2] / 1e6:.1f} MB" if row else ""

    lost = subject.without(subject.context.db_names)
    found, reasons = each([n for n in subject.context.db_names if n not in lost], look, deadline=DEADLINE)
    problems = [f"{host}: {reason}" for host, reason in {**lost, **reasons}.items()]
    problems += [f"{host}: no database {name}" for host, text in found.items() if not text]
    problems += [
        f"{host}: encoding {t.split(',')[0]}" for host, t in found.items() if t and not t.startswith("UTF8")
    ]
    evidence = [f"{host}: {text}" for host, text in found.items() if text]
    return judged(problems, f"{name} is on {len(evidence)} nodes, UTF8", evidence)


def extension(subject: Subject) -> Verdict:
    """Judge whether every node has the extension at the wanted version, and its files."""
    want, snapshot = subject.context.inventory.versions.pgvector, subject.snapshot
    problems, evidence = [], []
    for name in subject.context.db_names:
        rows, reason = subject.known(snapshot.ask.extensions, name)
        if rows is None:
            problems.append(f"{name}: {reason}")
            continue
        installed = dict(rows).get("vector")
        role = "primary" if name == snapshot.leader else "replica"
        files = {row[1] for row in subject.known(_available(subject), name)[0] or ()}
        evidence.append(f"{name} ({role}): vector {installed or 'missing'}, files {', '.join(sorted(files))}")
        if installed != want:
            problems.append(f"{name}: vector {installed or 'missing'}, wanted {want}")
        elif want not in files:
            problems.append(f"{name}: the files of vector {want} are missing")
    return judged(problems, f"vector {want} on {len(evidence)} nodes", evidence)


def _available(subject: Subject) -> RowsFact:
    return subject.snapshot.ask.views.available


CHECKS = (
    Acceptance("nodes", "{nodes} PostgreSQL nodes configured", "Cluster", configured),
    Acceptance("leader", "leader elected and active", "Cluster", leader),
    Acceptance("streaming", "replicas streaming, lag 0", "Cluster", streaming, ("leader",)),
    Acceptance("synchronous", "commits wait for a replica (RPO 0)", "Cluster", synchronous, ("leader",)),
    Acceptance("rest", "Patroni REST reachable on {ports.patroni} on each", "Cluster", rest),
    Acceptance("raft", "Raft quorum {nodes}/{nodes}", "Cluster", raft),
    Acceptance("database", "database {cluster.database}", "Database", database),
    Acceptance(
        "extension",
        "extension vector {versions.pgvector} on primary and replicas",
        "Database",
        extension,
    ),
)
