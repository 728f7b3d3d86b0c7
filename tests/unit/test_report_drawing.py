"""The topology's drawings: nothing overlaps or sticks out, whatever the size of the cluster."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from kbpg.report.drawing import HEIGHT, WIDTH, Drawing, describe, tall, wide


def topology(nodes: int, proxies: int, leader: int | None = 0, **first: Any) -> dict[str, Any]:
    def node(index: int) -> dict[str, Any]:
        leads = index == leader
        return {
            "name": f"db-{index}",
            "address": f"192.0.2.{index}",
            "role": "leader" if leads else "replica",
            "state": "running" if leads else "streaming",
            "timeline": 3,
            "lag_bytes": None if leads else 42,
            "synchronous": None if leads else "quorum",
            "problem": None,
        }

    found = [node(index) for index in range(nodes)]
    found[0] |= first
    return {
        "leader": None if leader is None else f"db-{leader}",
        "load_balancer": None,
        "ports": {},
        "nodes": found,
        "proxies": [
            {
                "name": f"p-{i}",
                "address": f"192.0.2.{100 + i}",
                "haproxy": True,
                "pgbouncer": i != 1,
                "problem": None,
            }
            for i in range(proxies)
        ],
    }


@pytest.mark.parametrize("draw", [wide, tall])
@pytest.mark.parametrize(("nodes", "proxies"), [(3, 1), (3, 2), (5, 3), (7, 2), (3, 5)])
def test_cards_lie_inside_and_apart(draw: Any, nodes: int, proxies: int) -> None:
    drawing: Drawing = draw(topology(nodes, proxies, leader=nodes - 1))
    assert len(drawing.cards) == nodes + proxies
    for card in drawing.cards:
        assert card.x >= 0
        assert card.x + WIDTH <= drawing.width
        assert card.y >= 0
        assert card.y + HEIGHT <= drawing.height
    for one, other in combinations(drawing.cards, 2):
        assert abs(one.x - other.x) >= WIDTH or abs(one.y - other.y) >= HEIGHT


def test_the_narrow_one_fits_a_phone_as_it_is() -> None:
    assert tall(topology(7, 3)).width <= 390 - 2 * 14 - 2 * 8 - 2


def test_lines_lead_from_proxies_to_the_leader_and_from_it_to_replicas() -> None:
    kinds = [line.kind for line in wide(topology(3, 2)).lines]
    assert kinds.count("entry") == 1
    assert kinds.count("writes") == 1
    assert kinds.count("replication") == 2
    assert kinds.count("broken") == 2  # the proxy whose PgBouncer does not answer, on both its sides


def test_without_a_leader_nothing_replicates() -> None:
    kinds = {line.kind for line in wide(topology(3, 2, leader=None)).lines}
    assert not kinds & {"writes", "replication"}


def test_what_is_broken_looks_broken() -> None:
    lost = topology(3, 2, leader=1, role="unknown", state="no answer", problem="no answer from db-0:22")
    card = next(card for card in wide(lost).cards if card.name == "db-0")
    assert card.kind == "down"
    assert card.words[0] == ("no answer", "bad")
    assert card.title == "db-0: no answer from db-0:22"


def test_a_long_name_is_shortened_and_whole_in_its_title() -> None:
    name = "db-with-a-name-of-sixty-three-characters"
    card = next(c for c in wide(topology(3, 2, name=name)).cards if c.name == name)
    assert card.short.endswith("…")
    assert len(card.short) <= 21
    assert name in card.title


def test_it_is_also_said_in_words() -> None:
    words = describe(topology(3, 2))
    assert words.startswith("Applications reach the proxies p-0, p-1, which lead to the leader.")
    assert "db-1 is replica, streaming, 42 bytes behind" in words


def test_a_load_balancer_is_the_way_in() -> None:
    assert wide({**topology(3, 2), "load_balancer": "192.0.2.10"}).entry == "load balancer 192.0.2.10"
