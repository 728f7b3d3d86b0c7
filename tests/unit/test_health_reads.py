"""What a diagnosis finds of the read side, and of databases and roles besides the application's."""

from __future__ import annotations

import dataclasses

import pytest

from kbpg.health.finding import Action, Severity

from .health_world import INVENTORY, World


def no_replica_for_readers(world: World) -> None:
    """Let HAProxy have no replica for readers on either proxy, as when all lag."""
    for proxy in world.context.proxy_names:
        servers = tuple(
            dataclasses.replace(s, status="DOWN", check="L7STS") if s.proxy == "replicas" else s
            for s in world.get(proxy, world.ask.haproxy)
        )
        world.say(proxy, world.ask.haproxy, servers)


def test_readers_that_the_leader_still_serves_are_a_notice() -> None:
    world = World()
    world.say("proxy-2", world.ask.views.reads, ((False, "192.0.2.1"),))
    found = world.diagnose()
    assert found.healthy
    (notice,) = found.of("reads-on-leader")
    assert (notice.host, notice.severity) == ("proxy-2", Severity.NOTICE)
    assert notice.repair
    assert notice.repair.action is Action.RECONNECT_POOLER


@pytest.mark.parametrize(
    ("fallback", "instead"), [("primary", "the leader serves reads"), ("none", "nobody serves reads")]
)
def test_without_replicas_the_finding_says_who_serves_reads(fallback: str, instead: str) -> None:
    world = World(INVENTORY + f"haproxy: {{read_fallback: {fallback}}}\n")
    no_replica_for_readers(world)
    for proxy in world.context.proxy_names:
        for view in (world.ask.views.replicas, world.ask.views.reads):
            if fallback == "none":
                world.silence(proxy, view, "server closed the connection unexpectedly")
            else:
                world.say(proxy, view, ((False, "192.0.2.1"),))
    found = world.diagnose()
    above = {finding.id for finding in found.findings if finding.severity > Severity.NOTICE}
    assert above == {"haproxy-replica-down"}
    assert not found.of("reads-on-leader")
    assert all(instead in finding.seen for finding in found.of("haproxy-replica-down"))


def test_what_is_not_in_the_inventory_is_a_notice() -> None:
    world = World()
    more = {"gone": {"verifier": None, "login": True}}
    world.say("db-1", world.ask.roles, {**world.get("db-1", world.ask.roles), **more})
    found = world.diagnose()
    assert found.healthy
    (notice,) = found.of("unmanaged")
    assert (notice.host, notice.subject, notice.severity) == ("cluster", "role gone", Severity.NOTICE)
    assert notice.repair is None
