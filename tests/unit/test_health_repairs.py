"""What diagnose says that a repair will do and what it risks, and the commands it prints instead."""

from __future__ import annotations

import dataclasses

import pytest

from kbpg.health.check import RESTARTS
from kbpg.health.finding import Action, Finding, Severity
from kbpg.model import Impact
from kbpg.resources.docker import LABEL_SPEC

from .health_world import World
from .test_health_findings import (
    asynchronous,
    broken,
    no_database,
    old_on_disk,
    only,
    paused,
    pending,
    two_leaders,
)

RUNNING_OUT = "FATAL:  could not connect to the primary server: password authentication failed for user"


def one(world: World, id_: str) -> Finding:
    """Return the one finding of a check."""
    (found,) = world.diagnose().of(id_)
    return found


def risk(finding: Finding) -> str:
    assert finding.repair is not None
    return finding.repair.risk


def test_a_database_that_is_made_anew_is_empty() -> None:
    world = World()
    no_database(world)
    finding = only(world)
    assert "it is empty" in risk(finding)
    assert finding.evidence == ("there is: postgres",)


def test_a_password_that_is_set_keeps_out_who_uses_the_present_one() -> None:
    world = World()
    world.role("kb_app", verifier="SCRAM-SHA-256$4096:c2FsdA==$eA==:eA==")
    assert "is refused from then on" in risk(only(world))


def test_a_step_is_applied_as_a_whole_with_all_its_risks() -> None:
    """A role's password is set by step 02 too, which would also replace the old container."""
    world = World()
    world.role("kb_admin", verifier="SCRAM-SHA-256$4096:c2FsdA==$eA==:eA==")
    assert RESTARTS not in risk(one(world, "role-password"))
    world.container("db-3", "patroni")["Config"]["Labels"][LABEL_SPEC] = "0123456789ab"
    assert world.snapshot().impact(2, "cluster") >= Impact.RESTART
    assert world.snapshot().impact(2, "db-2") is Impact.NONE
    assert risk(one(world, "role-password")).endswith(RESTARTS)
    assert risk(one(world, "container-old")) == RESTARTS


def test_the_end_of_a_pause_is_not_without_risk() -> None:
    world = World()
    paused(world)
    finding = only(world)
    assert "Patroni acts again" in risk(finding)
    assert finding.remedy == "kbpg resume"


def test_a_pause_is_not_ended_while_two_nodes_take_writes() -> None:
    world = World()
    paused(world)
    two_leaders(world)
    assert one(world, "patroni-paused").repair is None
    assert "rewinds" in one(world, "patroni-paused").why
    assert "save it first" in one(world, "two-leaders").evidence[-1]


def test_without_a_leader_in_a_pause_the_pause_is_the_remedy() -> None:
    world = World()
    paused(world)
    world.change("db-1", world.ask.node, role="replica", replicas=())
    finding = one(world, "no-leader")
    assert finding.seen.endswith("Patroni is paused, so that none takes over")
    assert finding.remedy == "kbpg resume"


def test_postgresql_that_is_down_in_a_pause_comes_with_the_end_of_it() -> None:
    world = World()
    world.lost("db-2")
    world.change("db-2", world.ask.node, state="stopped")
    assert "docker logs" in one(world, "postgres-down").remedy
    paused(world)
    assert one(world, "postgres-down").remedy == "kbpg resume"


def test_a_restart_does_not_put_in_force_what_somebody_changed() -> None:
    world = World()
    pending(world)
    assert one(world, "pending-restart").repair is not None
    for name in world.context.db_names:
        world.say(name, world.ask.config, {**world.get(name, world.ask.config), "ttl": 60})
    assert one(world, "pending-restart").repair is None
    assert one(world, "drift").repair is not None


def test_a_setting_by_alter_system_is_taken_back() -> None:
    world = World()
    world.say("db-1", world.ask.views.settings, (("fsync", "off", None, False),))
    world.say("db-1", world.ask.views.overridden, (("fsync", "off", "sighup"),))
    finding = only(world)
    assert (finding.id, finding.repair and finding.repair.parameters) == ("unsafe-setting", {"name": "fsync"})
    assert risk(finding) == "none"
    assert finding.remedy.endswith(
        """-d postgres -c "alter system reset fsync" -c "select pg_reload_conf()"'"""
    )


@pytest.mark.parametrize(("host", "expected"), [("db-1", "a switchover"), ("db-2", "this replica is away")])
def test_a_parameter_that_needs_a_restart_says_so(host: str, expected: str) -> None:
    world = World()
    world.say(host, world.ask.views.overridden, (("shared_buffers", "6GB", "postmaster"),))
    finding = only(world)
    assert risk(finding).startswith(expected)
    assert finding.repair is not None
    assert finding.repair.will.endswith("and restart PostgreSQL there through Patroni")
    assert finding.remedy.endswith(f"docker exec patroni patronictl restart test {host} --force'")


@pytest.mark.parametrize(
    "row",
    [("work_mem_of_mine", "1", "user"), ("max_connections", "999", "postmaster")],
    ids=lambda row: row[0],
)
def test_what_kbpg_does_not_set_or_patroni_enforces_is_no_finding(row: tuple[str, str, str]) -> None:
    world = World()
    world.say("db-2", world.ask.views.overridden, (row,))
    assert world.diagnose().healthy


def test_parallel_builds_by_alter_system_are_reset_where_they_are_set() -> None:
    world = World()
    world.say("db-3", world.ask.views.settings, (("max_parallel_maintenance_workers", "2", None, False),))
    world.say("db-3", world.ask.views.overridden, (("max_parallel_maintenance_workers", "2", "user"),))
    ids = {f.id: f for f in world.diagnose().findings if f.severity is Severity.WARNING}
    assert set(ids) == {"pgvector-vulnerable", "setting-overridden"}
    assert {f.repair.action for f in ids.values() if f.repair} == {Action.RESET_PARAMETER}


def test_a_cause_of_before_the_last_good_stream_is_over() -> None:
    world = World()
    broken("FATAL:  no route to host")(world)
    good = "LOG:  started streaming WAL from primary at 0/5000000 on timeline 1"
    world.log("db-2", "patroni", f'{RUNNING_OUT} "replicator"', good, "FATAL:  no route to host")
    assert only(world).id == "replica-not-streaming"
    assert only(world).remedy == "kbpg diagnose --repair --host db-2"
    world.log("db-2", "patroni", good, "FATAL:  could not connect to the primary server: Connection refused")
    assert only(world).seen.endswith("could not connect to the primary server: Connection refused")
    assert "/dev/tcp/192.0.2.1/5432" in only(world).remedy
    world.log("db-2", "patroni", good, f'{RUNNING_OUT} "replicator"')
    assert only(world).id == "replica-password"


def test_a_changed_container_is_made_anew_the_leaders_after_a_switchover() -> None:
    world = World()
    old_on_disk(world)
    gone = "'docker stop patroni && docker rm patroni'"
    assert only(world).remedy == f"ssh root@192.0.2.2 {gone} && kbpg step 02 --limit db-2"
    world = World()
    world.say("db-1", world.ask.views.available, (("vector", "0.8.0", False),))
    assert only(world).remedy.startswith(
        "ssh root@192.0.2.1 'docker exec patroni patronictl switchover --force' && ssh "
    )


def test_a_slot_is_made_at_the_price_of_log_on_the_leader() -> None:
    world = World()
    broken('FATAL:  replication slot "db_2" does not exist')(world)
    assert "keeps its log" in risk(only(world))


def test_where_all_slots_are_taken_none_can_be_made() -> None:
    world = World()
    broken('FATAL:  replication slot "db_2" does not exist')(world)
    slots = (("db_3", "physical", True, "reserved", 0), ("other", "physical", False, None, None))
    world.say("db-1", world.ask.views.slots, slots)
    world.say("db-1", world.ask.views.settings, (("max_replication_slots", "2", None, False),))
    finding = one(world, "replica-slot-missing")
    assert finding.repair is None
    assert finding.evidence[-1] == "all 2 replication slots of db-1 are in use: db_3, other"
    assert "pg_drop_replication_slot('" in finding.remedy.replace("""'"'"'""", "'")


def test_without_a_synchronous_replica_by_somebodys_hand_the_step_is_the_remedy() -> None:
    world = World()
    asynchronous(world)
    assert one(world, "synchronous-missing").remedy == "kbpg status"
    for name in world.context.db_names:
        world.say(name, world.ask.config, {**world.get(name, world.ask.config), "synchronous_mode": False})
    assert one(world, "synchronous-missing").remedy == "kbpg step 02"


def test_of_a_node_that_waits_for_a_restart_the_leader_is_handed_over() -> None:
    world = World()
    world.change("db-1", world.ask.node, pending_restart=True)
    assert risk(only(world)).startswith("a switchover")
    world.say(
        "db-1", world.ask.node, dataclasses.replace(world.get("db-1", world.ask.node), pending_restart=False)
    )
    assert world.diagnose().healthy
