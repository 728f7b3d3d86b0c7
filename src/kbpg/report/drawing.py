"""The topology as drawings: where every card and line of the SVG goes. One is wide, one is for a narrow screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT, GAP = 232, 92, 28
"""Of a card, and between two, in the SVG's units: pixels where it is not scaled."""
MARGIN = 12
ENTRY = 36
"""Height of the entry, where applications come in."""
BETWEEN = 62
"""Height of the space between two rows, for the lines and their label."""
ARC = 50
"""Height of the space below the nodes in which replication is drawn."""
NAME = 21
"""Characters of a name that fit on a card beside its role."""
SPINE = 26
"""Indentation of the cards of the narrow drawing that hang on a line."""


@dataclass(frozen=True)
class Card:
    """A host: its corner, name, role, address, a word beside that, and what is said of it as (text, class)."""

    x: float
    y: float
    name: str
    role: str
    kind: str
    address: str
    words: tuple[tuple[str, str], ...]
    title: str
    aside: str = ""

    @property
    def short(self) -> str:
        """Return the name, as much of it as fits."""
        return self.name if len(self.name) <= NAME else f"{self.name[: NAME - 1]}…"


@dataclass(frozen=True)
class Line:
    """A connection: the path's data, and what it is."""

    path: str
    kind: str


@dataclass(frozen=True)
class Drawing:
    """Everything of one SVG. The entry is a box at (`entry_x`, `entry_y`) of `entry_width`."""

    width: float
    height: float
    entry: str
    entry_x: float
    entry_y: float
    entry_width: float
    cards: tuple[Card, ...]
    lines: tuple[Line, ...]
    description: str


def wide(topology: dict[str, Any]) -> Drawing:
    """Return the drawing in rows: applications, proxies, nodes, and replication below them."""
    nodes, proxies = topology["nodes"], topology["proxies"]
    width = 2 * MARGIN + _row_width(max(len(nodes), len(proxies)))
    proxy_y = MARGIN + ENTRY + BETWEEN
    node_y = proxy_y + HEIGHT + BETWEEN
    ups = _row(proxies, _proxy, width, proxy_y)
    downs = _row(nodes, _node, width, node_y)
    middle = width / 2
    lines = [
        Line(_curve(middle, MARGIN + ENTRY, _centre(card), proxy_y), _good(card, "entry")) for card in ups
    ]
    leads = [card for card in downs if card.role == "leader"]
    for leader in leads:
        lines += [
            Line(_curve(_centre(card), proxy_y + HEIGHT, _centre(leader), node_y), _good(card, "writes"))
            for card in ups
        ]
        lines += [_arc(leader, card, node_y + HEIGHT) for card in downs if card.role == "replica"]
    return Drawing(
        width,
        node_y + HEIGHT + (ARC if leads and len(downs) > 1 else 0) + MARGIN,
        _entry(topology),
        middle - WIDTH / 2,
        MARGIN,
        WIDTH,
        (*ups, *downs),
        tuple(lines),
        describe(topology),
    )


def tall(topology: dict[str, Any]) -> Drawing:
    """Return the drawing in one column, the leader before its replicas, which hang on a line."""
    nodes = sorted(topology["nodes"], key=lambda node: node["role"] != "leader")
    proxies = topology["proxies"]
    x, proxy_y, step = MARGIN + SPINE, MARGIN + ENTRY + 26, HEIGHT + 10
    node_y = proxy_y + len(proxies) * step + 18
    ups = [_proxy(proxy, x, proxy_y + index * step) for index, proxy in enumerate(proxies)]
    downs = [_node(node, x, node_y + index * step) for index, node in enumerate(nodes)]
    middle = x + WIDTH / 2
    lines = [
        Line(f"M{middle:g} {MARGIN + ENTRY} V{proxy_y - 3}", "entry"),
        Line(f"M{middle:g} {node_y - 28} V{node_y - 3}", "writes" if topology["leader"] else "broken"),
    ]
    if topology["leader"]:
        lines += [_hanging(downs[0], card) for card in downs if card.role == "replica"]
    return Drawing(
        2 * MARGIN + WIDTH + 2 * SPINE,
        node_y + len(nodes) * step - 10 + MARGIN,
        _entry(topology),
        x,
        MARGIN,
        WIDTH,
        (*ups, *downs),
        tuple(lines),
        describe(topology),
    )


def _hanging(leader: Card, replica: Card) -> Line:
    """Return replication from the leader to a replica below it, around the cards between them."""
    start, end = leader.y + HEIGHT / 2, replica.y + HEIGHT / 2
    path = f"M{leader.x:g} {start:g} H{MARGIN + 6} V{end:g} H{replica.x - 4:g}"
    return Line(path, _good(replica, "replication"))


def describe(topology: dict[str, Any]) -> str:
    """Return the topology in words, for whoever does not see the drawing."""
    proxies = ", ".join(proxy["name"] for proxy in topology["proxies"])
    nodes = "; ".join(
        f"{node['name']} is {node['role']}, {node['state']}, {node['lag_bytes'] or 0} bytes behind"
        if node["role"] == "replica"
        else f"{node['name']} is {node['role']}, {node['state']}"
        for node in topology["nodes"]
    )
    return f"Applications reach the proxies {proxies}, which lead to the leader. {nodes}."


def _entry(topology: dict[str, Any]) -> str:
    balancer = topology["load_balancer"]
    return f"load balancer {balancer}" if balancer else "applications"


def _node(node: dict[str, Any], x: float, y: float) -> Card:
    role, good = node["role"], node["problem"] is None and node["role"] != "unknown"
    words = [(node["state"], "good" if good else "bad")]
    if node["synchronous"]:
        words.append((node["synchronous"], ""))
    if node["lag_bytes"] is not None:
        words.append((f"lag {node['lag_bytes']} B", ""))
    kind = role if good else "down"
    title = f"{node['name']}: {node['problem'] or node['state']}"
    aside = "" if node["timeline"] is None else f"timeline {node['timeline']}"
    return Card(x, y, node["name"], role, kind, node["address"], tuple(words), title, aside)


def _proxy(proxy: dict[str, Any], x: float, y: float) -> Card:
    words = tuple(
        (f"{name} {'✓' if proxy[key] else '✗'}", "good" if proxy[key] else "bad")
        for name, key in (("HAProxy", "haproxy"), ("PgBouncer", "pgbouncer"))
    )
    good = proxy["haproxy"] and proxy["pgbouncer"]
    title = f"{proxy['name']}: {proxy['problem'] or 'answers'}"
    return Card(x, y, proxy["name"], "proxy", "proxy" if good else "down", proxy["address"], words, title)


def _row(hosts: Sequence[dict[str, Any]], card: Any, width: float, y: float) -> list[Card]:
    x = (width - _row_width(len(hosts))) / 2
    return [card(host, x + index * (WIDTH + GAP), y) for index, host in enumerate(hosts)]


def _row_width(cards: int) -> float:
    return cards * WIDTH + (cards - 1) * GAP


def _centre(card: Card) -> float:
    return card.x + WIDTH / 2


def _good(card: Card, kind: str) -> str:
    return "broken" if card.kind == "down" else kind


def _curve(x1: float, y1: float, x2: float, y2: float) -> str:
    """Return a line from one edge to another that leaves and arrives upright, short of the arrow's tip."""
    y2 -= 4
    half = (y1 + y2) / 2
    return f"M{x1:g} {y1:g} C{x1:g} {half:g} {x2:g} {half:g} {x2:g} {y2:g}"


def _arc(leader: Card, replica: Card, y: float) -> Line:
    """Return replication from the leader to a replica, below the cards, with its lag."""
    steps = abs(replica.x - leader.x) / (WIDTH + GAP)
    depth = min(ARC + 6, 26 + 15 * steps)
    toward = 1 if replica.x > leader.x else -1
    x1, x2 = _centre(leader) + 14 * toward, _centre(replica) - 14 * toward
    path = f"M{x1:g} {y:g} C{x1:g} {y + depth:g} {x2:g} {y + depth:g} {x2:g} {y + 4:g}"
    return Line(path, "broken" if replica.kind == "down" else "replication")
