"""What is on the hosts is taken for this cluster's own only where something says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kbpg.hosts.fake import FakeHost
from kbpg.operations.belongings import Belongings, strangers, take_stock
from kbpg.operations.place import site_of
from kbpg.resources.docker import ContainersFact, ImagesFact
from kbpg.resources.file import FileFact
from kbpg.resources.foreign import DataState, Ownership

from .small_cluster import context

CONTEXT = context()
DATA = DataState("/opt/keybuzz/postgres/data/pgdata", True, "16", "7")
OURS = Ownership("kb", "7")


def container(name: str, *binds: str, label: bool = True) -> dict[str, Any]:
    labels = {"kbpg.spec": "1"} if label else None
    mounts = list(binds or (f"/opt/keybuzz/{name}:/etc/{name}:ro",))
    return {"Name": f"/{name}", "Config": {"Labels": labels}, "HostConfig": {"Binds": mounts}}


def stock() -> dict[str, Belongings]:
    nodes = {
        name: Belongings(name, {"patroni": container("patroni")}, {}, data=DATA, owner=OURS)
        for name in ("db-1", "db-2", "db-3")
    }
    routes = frozenset({"192.0.2.1", "192.0.2.2", "192.0.2.3"})
    return {**nodes, "px-1": Belongings("px-1", {"haproxy": container("haproxy")}, {}, routes=routes)}


def found(name: str, **change: Any) -> list[str]:
    return strangers(CONTEXT, {**stock(), name: replace(stock()[name], **change)})


def test_what_kbpg_made_for_this_cluster_is_its_own() -> None:
    assert strangers(CONTEXT, stock()) == []


def test_what_a_killed_run_has_left_is_still_its_own() -> None:
    nothing = DataState(DATA.path, present=False)
    assert found("db-1", containers={}, data=nothing, owner=Ownership()) == []
    half = DataState(DATA.path, True, "", "")
    assert found("db-2", containers={}, data=half) == []
    assert found("px-1", containers={}, routes=frozenset()) == []


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("db-1", {"owner": Ownership("other", "7")}, "belongs to the cluster other, not to kb"),
        ("db-1", {"owner": Ownership()}, "no record of kbpg's explains it"),
        ("db-2", {"data": replace(DATA, system_identifier="8")}, "record names the identifier 7"),
        ("db-3", {"data": replace(DATA, readable=False, system_identifier="")}, "pg_control cannot be read"),
        ("db-1", {"containers": {"patroni": container("patroni", label=False)}}, "was not started by kbpg"),
        (
            "db-1",
            {"containers": {"patroni": container("patroni", "/opt/keybuzz2/data:/data:rw")}},
            "works on /opt/keybuzz2/data:/data:rw, not below /opt/keybuzz/",
        ),
        ("px-1", {"routes": frozenset({"192.0.2.71"})}, "serves another cluster: 192.0.2.71"),
        ("px-1", {"problem": "Docker does not answer"}, "Docker does not answer"),
    ],
)
def test_what_is_not(name: str, change: dict[str, Any], reason: str) -> None:
    (line,) = [line for line in found(name, **change) if reason in line]
    assert line.startswith(f"{name}: ")


def test_a_host_of_another_cluster_with_the_same_name_is_the_odd_one_out() -> None:
    """Its data and its record agree with each other, and not with the other hosts."""
    stranger = replace(DATA, system_identifier="8")
    lines = found("db-3", data=stranger, owner=Ownership("kb", "8"))
    assert lines == ["db-3: system identifier 8 here, 7 on db-1, 7 on db-2"]


def test_a_proxy_that_knows_one_of_our_nodes_is_ours() -> None:
    assert found("px-1", routes=frozenset({"192.0.2.3", "192.0.2.9"})) == []


def test_the_routes_of_a_proxy_are_read_from_its_configuration() -> None:
    from kbpg.hosts.port import Output

    config = "listen primary\n    server db-1 192.0.2.1:5432\n    server b 2001:db8::1:5432\n"
    proxy = FakeHost(
        "px-1",
        answers={
            ContainersFact: lambda host, question: Output(0, "[]"),
            ImagesFact: lambda host, question: Output(0, "[]"),
            FileFact: lambda host, question: Output(0, f"0:0 644\n{config}"),
        },
    )
    site = site_of(CONTEXT, {"px-1": proxy}, FakeHost("c"), lambda place, text: None)
    assert take_stock(site)["px-1"].routes == {"192.0.2.1", "2001:db8::1"}
