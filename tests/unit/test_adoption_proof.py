"""Which clusters that kbpg did not start are taken over: each doubt keeps the run from changing anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from kbpg import scram
from kbpg.adoption.proof import Proof, covers, lets_in, on_host, sources
from kbpg.facts import Facts, NotKnown
from kbpg.resources.datadir import DataDirectory, DataDirectoryFact
from kbpg.resources.foreign import DataFact
from kbpg.resources.sql_facts import RowsFact
from kbpg.secret import Secret

from .health_world import World

Break = Callable[[World], None]
MOUNT = "/opt/keybuzz/postgres/data"


def doubts(world: World, host: str = "db-2", rules: Any = ()) -> list[str]:
    facts: Facts = world.snapshot().facts
    proof = Proof(world.context, facts)
    hba = next(f for f in proof.questions() if isinstance(f, RowsFact) and f.name == "who may connect")
    if rules:
        for name in world.context.db_names:
            world.answers[name][hba.key] = rules
        proof = Proof(world.context, world.snapshot().facts)
    return proof.doubts(host)


def where(world: World) -> RowsFact:
    """Return the question for PostgreSQL's own directory."""
    facts = Proof(world.context, world.snapshot().facts).questions()
    return next(f for f in facts if isinstance(f, RowsFact) and f.name == "data directory")


def unowned() -> World:
    world = World()
    world.nobodys()
    return world


def test_a_cluster_that_is_the_inventorys_leaves_no_doubt() -> None:
    world = unowned()
    assert [doubts(world, host) for host in world.context.db_names] == [[], [], []]


# --- one host ------------------------------------------------------------------------------------------


def other_system(world: World) -> None:
    world.change("db-2", DataFact(MOUNT), system_identifier="999")


def other_owner(world: World) -> None:
    world.say("db-2", DataDirectoryFact(f"{MOUNT}/pgdata", 999), DataDirectory("70:70", 0o700, ""))


def other_name(world: World) -> None:
    world.change("db-2", world.ask.node, name="pg2")


def other_scope(world: World) -> None:
    world.change("db-2", world.ask.node, scope="batman")


def other_container(world: World) -> None:
    world.say("db-2", world.containers("db-2"), {})


def other_mount(world: World) -> None:
    world.container("db-2", "patroni")["HostConfig"]["Binds"] = ["/srv/pg:/var/lib/postgresql/data"]


def old_copy(world: World) -> None:
    """The same system runs from another directory of the mount."""
    fact = where(world)
    world.say("db-2", fact, (("/var/lib/postgresql/data/main",),))


def old_log(world: World) -> None:
    """Raft runs elsewhere, and in the place of its directory lies something."""
    binds = world.container("db-2", "patroni")["HostConfig"]["Binds"]
    binds[:] = [bind for bind in binds if "raft" not in bind]


def bridged(world: World) -> None:
    world.container("db-2", "patroni")["HostConfig"]["NetworkMode"] = "bridge"


# --- the cluster ---------------------------------------------------------------------------------------


def away(world: World) -> None:
    world.lost("db-3")


def other_raft_password(world: World) -> None:
    world.silence("db-3", world.ask.raft, "Raft on port 7000 speaks with another password")


def other_member(world: World) -> None:
    status = world.get("db-1", world.ask.raft)
    world.change("db-1", world.ask.raft, partners={**status.partners, "192.0.2.99:7000": True})


def other_superuser_password(world: World) -> None:
    world.silence("db-1", world.ask.roles, "port 5432: password authentication failed")


def other_app_password(world: World) -> None:
    world.role("kb_app", verifier=scram.verifier(Secret("another-password")))


def md5(world: World) -> None:
    world.role("replicator", verifier="md5" + "0" * 32)


def leaderless(world: World) -> None:
    world.change("db-1", world.ask.node, role="replica")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (other_system, "and the data here is of 999"),
        (other_owner, "the data belongs to 70:70: wanted 999:999"),
        (other_name, "Patroni calls this node pg2, and the inventory db-2"),
        (other_scope, "Patroni's scope is batman, and cluster.name is test"),
        (other_container, "no container is called patroni; `docker rename NAME patroni` restarts nothing"),
        (other_mount, f"its container patroni does not mount {MOUNT}"),
        (old_copy, f"its PostgreSQL runs on {MOUNT}/main: wanted {MOUNT}/pgdata"),
        (old_log, "there are files in /opt/keybuzz/postgres/raft, and its container does not use them"),
        (bridged, "its container patroni has the network `bridge`: wanted the host's"),
        (away, "db-3 does not stream from db-1, which leads"),
        (other_raft_password, "db-3: Raft on port 7000 speaks with another password (the credentials"),
        (other_member, "db-1: the members of Raft are "),
        (other_superuser_password, "db-1 does not let kb_admin in with the credentials file's password"),
        (other_app_password, "POSTGRES_APP_PASS of the credentials file is not kb_app's password"),
        (md5, "replicator: their passwords are stored as MD5"),
        (leaderless, "no node that can be asked leads it"),
    ],
)  # fmt: skip
def test_a_doubt_is_told(damage: Break, said: str) -> None:
    world = unowned()
    damage(world)
    found = doubts(world)
    assert len(found) == 1, found
    assert said in found[0]


def test_what_cannot_be_read_is_a_doubt() -> None:
    world = unowned()
    world.answers["db-2"][DataFact(MOUNT).key] = NotKnown("cannot be read")
    assert "cannot be read" in doubts(world)[0]


# --- pg_hba.conf ---------------------------------------------------------------------------------------

WIDE = ("host", ["all"], ["all"], "0.0.0.0", "0.0.0.0", "scram-sha-256")
REPLICATION = ("host", ["replication"], ["replicator"], "192.0.2.0", "255.255.255.0", "md5")


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        ([REPLICATION], True),
        ([WIDE], False),  # `all` is not `replication`
        ([("host", ["replication"], ["repl"], "192.0.2.0", "255.255.255.0", "md5")], False),
        ([("host", ["replication"], ["all"], "all", None, "scram-sha-256")], True),
        ([("hostssl", ["replication"], ["all"], "all", None, "scram-sha-256")], False),
        ([("host", ["replication"], ["all"], "all", None, "reject"), REPLICATION], False),
        ([("host", ["replication"], ["all"], "db.example", None, "md5")], False),
        ([("local", ["replication"], ["all"], None, None, "trust")], False),
    ],
)
def test_who_is_let_in(rules: list[Any], allowed: bool) -> None:
    assert lets_in(rules, "replication", "replicator", "192.0.2.2") is allowed


def test_another_replication_user_needs_a_line_for_kbpgs() -> None:
    world = unowned()
    leader = world.get("db-1", world.ask.node)
    others = tuple(dataclasses.replace(each, user="repl") for each in leader.replicas)
    world.change("db-1", world.ask.node, replicas=others)
    assert (
        "pg_hba.conf of db-1 has no line such as `host replication replicator"
        in doubts(world, rules=[WIDE])[0]
    )
    assert doubts(world, rules=[REPLICATION]) == []


# --- mounts --------------------------------------------------------------------------------------------


def test_mounts_by_either_option() -> None:
    container = {"Mounts": [{"Source": "/srv/a"}], "HostConfig": {"Binds": ["/srv/a:/a", "/srv/b:/b:ro"]}}
    mounted = {
        "Mounts": [{"Source": "/srv", "Destination": "/var/lib"}],
        "HostConfig": {"Binds": ["/srv/a:/a"]},
    }
    assert on_host(mounted, "/var/lib/pg/data") == "/srv/pg/data"
    assert on_host(mounted, "/a") == "/srv/a"
    assert on_host(mounted, "/elsewhere") == ""
    assert sources(container) == ["/srv/a", "/srv/b"]
    assert covers("/opt/keybuzz", MOUNT)
    assert not covers("/opt/key", MOUNT)
