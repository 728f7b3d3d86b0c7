"""`config show`: what differs, what is left alone, what waits for a restart, and how that reads."""

from __future__ import annotations

from typing import Any

import pytest

from kbpg.cli.settings import shown
from kbpg.console import plain
from kbpg.errors import NotConverged
from kbpg.facts import NotKnown
from kbpg.operations.config_show import Row, Shown, look, rows
from kbpg.operations.server_settings import ServerSetting, SettingsFact
from kbpg.patroni import ConfigFact, NodeFact
from kbpg.resources.hardware import DiskSizeFact, Hardware, HardwareFact
from kbpg.resources.patroni import wanted_configuration

from .small_cluster import DATABASES, context, hosts, knowing, site

CONTEXT = context()
NODE, CONFIG, SERVER = NodeFact(8008), ConfigFact(8008), SettingsFact(CONTEXT.superuser())
GB = 1 << 30


def answers(changed: dict[str, Any] | None = None, leader: str = "db-2") -> dict[str, dict[str, object]]:
    """Return what a cluster says that is as the inventory wants it, but for the top-level keys `changed`."""
    machine: dict[str, object] = {
        HardwareFact().key: Hardware(2 * GB, 2),
        DiskSizeFact("/opt/keybuzz").key: 100 * GB,
    }
    right = wanted_configuration(CONTEXT, knowing(dict.fromkeys(DATABASES, machine), "db-1"))
    found: dict[str, dict[str, object]] = {}
    for name in DATABASES:
        role = "primary" if name == leader else "replica"
        found[name] = {
            **machine,
            NODE.key: NODE.parse(200, {"state": "running", "role": role}),
            CONFIG.key: {**right, **(changed or {})},
            SERVER.key: {"jit": ServerSetting("jit", "off", "off", "user", False, "file", "")},
        }
    return found


def seen(found: dict[str, dict[str, object]]) -> Shown:
    return look(site("cluster", hosts(), found))


def test_a_cluster_as_the_inventory_wants_it() -> None:
    found = seen(answers())
    assert found.leader == "db-2"
    assert found.agrees
    assert found.document()["agrees"] is True
    assert plain(shown(found)).endswith("cluster and inventory agree, nothing waits for a restart\n")


def test_what_differs_stands_beside_what_the_inventory_wants() -> None:
    found = seen(answers({"ttl": 45, "nofailover_hint": "x", "pause": True}))
    assert not found.agrees
    assert [row for row in found.rows if row.differs] == [
        Row("nofailover_hint", "x", None),
        Row("ttl", "45", "20"),
    ]
    lines = plain(shown(found)).splitlines()
    assert any(line.split() == ["ttl", "45", "20"] for line in lines)
    assert any(line.split() == ["pause", "True", "left", "alone"] for line in lines)
    assert "2 settings differ: apply-all makes them as the inventory" in lines
    assert {s["key"] for s in found.document()["settings"] if s["left_alone"]} == {"pause"}


def test_what_waits_for_a_restart_and_who_does_not_answer() -> None:
    world = answers()
    waiting = ServerSetting("shared_buffers", "1", "8kB", "postmaster", True, "file", "")
    world["db-1"][SERVER.key] = {"shared_buffers": waiting}
    world["db-3"][SERVER.key] = NotKnown("connection refused")
    found = seen(world)
    assert not found.agrees
    assert found.pending == {"db-1": ["shared_buffers"], "db-2": []}
    assert found.silent == {"db-3": "connection refused"}
    text = plain(shown(found))
    assert "db-1: waits for a restart: shared_buffers\n" in text
    assert "db-3: connection refused\n" in text


def test_a_restart_that_patroni_alone_knows_of_is_shown() -> None:
    """A replica that keeps its leader's larger value: PostgreSQL has nothing pending there, Patroni has."""
    world = answers()
    body = {"state": "running", "role": "replica", "pending_restart": True}
    world["db-1"][NODE.key] = NODE.parse(200, body)
    assert seen(world).pending["db-1"] == ["Patroni says so"]


def test_a_host_whose_memory_is_not_known_leaves_the_rest_to_be_seen() -> None:
    world = answers({"ttl": 45})
    world["db-3"][HardwareFact().key] = NotKnown("db-3 is away")
    found = seen(world)
    assert found.unknown == "db-3 is away"
    assert not [row for row in found.rows if row.differs]
    assert not found.agrees
    assert "what the inventory wants is not known: db-3 is away\n" in plain(shown(found))


def test_without_a_leader_nothing_can_be_said() -> None:
    with pytest.raises(NotConverged, match="the configuration cannot be read: waits for a leader"):
        seen(answers(leader="nobody"))


def test_postgresqls_parameters_come_last_and_by_name() -> None:
    wanted = {"ttl": 20, "postgresql": {"parameters": {"b": 1, "a": True}, "use_slots": True}}
    names = [row.key for row in rows(wanted, wanted)]
    assert names == ["ttl", "postgresql.use_slots", "postgresql.parameters.a", "postgresql.parameters.b"]
