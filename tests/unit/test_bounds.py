"""Which way the bounds of replicas go, by PostgreSQL's settings and Patroni's configuration."""

from __future__ import annotations

import pytest

from kbpg.resources.bounds import BOUNDS, LeaderSettings, Shift, shift

from .small_cluster import context, knowing


@pytest.mark.parametrize("name", BOUNDS)
def test_each_bound_is_known_to_grow_and_to_shrink(name: str) -> None:
    assert shift({name: "100"}, {name: 250}) == Shift(grows=frozenset({name}))
    assert shift({name: "250"}, {name: "100"}) == Shift(shrinks=frozenset({name}))
    assert shift({name: "100"}, {name: "100"}) == Shift()


@pytest.mark.parametrize("value", [None, 24, "many"])
def test_what_patroni_does_not_accept_is_its_default(value: object) -> None:
    assert shift({"max_connections": "100"}, {"max_connections": value}) == Shift()
    assert shift({"max_connections": "101"}, {"max_connections": value}).shrinks == {"max_connections"}


def test_other_parameters_bind_no_replica() -> None:
    assert shift({"shared_buffers": "16384", "max_connections": "100"}, {"shared_buffers": "1GB"}) == Shift()


def test_without_a_leader_nothing_is_known() -> None:
    found = LeaderSettings(context())
    assert found.in_force(knowing({}, "db-1")) == {}
    assert found.shift(knowing({}, "db-1")) == Shift()
