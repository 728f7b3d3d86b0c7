"""The kernel's rules read back: listings of several versions of nft, and every way in which rules may differ.

The listings are written by hand from libnftables-json(5) and from the JSON that nft's own tests expect.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbpg.facts import NotKnown
from kbpg.firewall import listing
from kbpg.firewall.fact import Rules, RulesFact
from kbpg.firewall.policy import Guarded
from kbpg.hosts.port import Output

from . import hostile

GUARDED = (
    Guarded(7000, "Raft", tuple(ip_network(f"10.0.0.{n}") for n in (120, 121, 122))),
    Guarded(6432, "PgBouncer", (ip_network("10.9.0.0/16"), ip_network("2001:db8::/32"))),
    Guarded(8404, "HAProxy's statistics", None),
)
Rule = dict[str, Any]

IN_0_9_8: Any = {"|": [{"|": [{"|": ["fin", "syn"]}, "rst"]}, "ack"]}
"""Masks of flags as versions print them: nested, a list, flat, a number."""
IN_1_0_6: Any = ["fin", "syn", "rst", "ack"]
IN_1_1_3: Any = {"|": ["fin", "syn", "rst", "ack"]}
NUMERIC: Any = 23


def match(protocol: str, field: str, right: Any, op: str = "==") -> Rule:
    return {"match": {"op": op, "left": {"payload": {"protocol": protocol, "field": field}}, "right": right}}


def rule(*expressions: Rule, chain: str = "input", comment: str = "") -> Rule:
    body = {"family": "inet", "table": "kbpg", "chain": chain, "handle": 4, "expr": list(expressions)}
    return {"rule": {**body, "comment": comment} if comment else body}


def dropping(port: int) -> Rule:
    return rule(match("tcp", "dport", port), {"counter": {"packets": 3, "bytes": 180}}, {"drop": None})


ACCEPT: Rule = {"accept": None}


def listed(mask: Any = IN_1_1_3) -> dict[str, list[Rule]]:
    flags = {"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, mask]}
    loopback = {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "lo"}}
    hosts = {"set": ["10.0.0.120", "10.0.0.121", "10.0.0.122"]}
    return {
        "nftables": [
            {"metainfo": {"version": "1.1.3", "release_name": "Commodore", "json_schema_version": 1}},
            {"table": {"family": "inet", "name": "kbpg", "handle": 7}},
            {
                "chain": {
                    "family": "inet",
                    "table": "kbpg",
                    "name": "input",
                    "handle": 1,
                    "type": "filter",
                    "hook": "input",
                    "prio": 0,
                    "policy": "accept",
                }
            },
            rule(loopback, ACCEPT, comment="from the host itself"),
            rule(
                {"match": {"op": "!=", "left": flags, "right": "syn"}},
                ACCEPT,
                comment="no attempt to connect",
            ),
            rule(match("ip", "saddr", hosts), match("tcp", "dport", 7000), ACCEPT),
            dropping(7000),
            rule(
                match("ip", "saddr", {"set": [{"prefix": {"addr": "10.9.0.0", "len": 16}}]}),
                match("tcp", "dport", 6432),
                ACCEPT,
            ),
            rule(
                match("ip6", "saddr", {"set": [{"prefix": {"addr": "2001:db8::", "len": 32}}]}),
                match("tcp", "dport", 6432),
                ACCEPT,
            ),
            dropping(6432),
        ]
    }


def read(document: Any) -> tuple[str, ...]:
    return listing.read(json.dumps(document))


@pytest.mark.parametrize("mask", [IN_0_9_8, IN_1_0_6, IN_1_1_3, NUMERIC])
def test_what_was_loaded_is_what_is_wanted_whatever_the_version(mask: Any) -> None:
    assert read(listed(mask)) == listing.wanted(GUARDED)


def test_who_reaches_a_port_is_readable() -> None:
    assert listing.reach(read(listed())) == {
        7000: "10.0.0.120, 10.0.0.121, 10.0.0.122",
        6432: "10.9.0.0/16, 2001:db8::/32",
    }


def expressions(document: Any, index: int) -> list[Rule]:
    found: list[Rule] = document["nftables"][index]["rule"]["expr"]
    return found


def as_a_range(d: Any) -> None:
    expressions(d, 5)[0]["match"]["right"] = {"range": ["10.0.0.120", "10.0.0.122"]}


def in_another_order(d: Any) -> None:
    expressions(d, 5)[0]["match"]["right"] = {
        "set": ["10.0.0.122", {"prefix": {"addr": "10.0.0.120", "len": 31}}]
    }
    expressions(d, 5)[:2] = reversed(expressions(d, 5)[:2])


def single_element(d: Any) -> None:
    expressions(d, 7)[0]["match"]["right"] = {"prefix": {"addr": "10.9.0.0", "len": 16}}


def implied_spelt_out(d: Any) -> None:
    for index, protocol in ((5, "ipv4"), (8, "ipv6")):
        dependency = {"match": {"op": "==", "left": {"meta": {"key": "nfproto"}}, "right": protocol}}
        expressions(d, index).insert(0, dependency)
    tcp = {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "tcp"}}
    expressions(d, 6).insert(0, tcp)


def rules_before_the_chain(d: Any) -> None:
    d["nftables"].append(d["nftables"].pop(2))


@pytest.mark.parametrize(
    "change", [as_a_range, in_another_order, single_element, implied_spelt_out, rules_before_the_chain]
)
def test_other_words_for_the_same_rules_are_no_difference(change: Callable[[Any], None]) -> None:
    document = listed()
    change(document)
    assert read(document) == listing.wanted(GUARDED)


def set_at(index: int, key: str, value: Any) -> Callable[[Any], None]:
    def change(d: Any) -> None:
        next(iter(d["nftables"][index].values()))[key] = value

    return change


def without(index: int) -> Callable[[Any], None]:
    return lambda d: d["nftables"].pop(index)


def swapped(d: Any) -> None:
    d["nftables"][5], d["nftables"][6] = d["nftables"][6], d["nftables"][5]


def one_address_more(d: Any) -> None:
    expressions(d, 5)[0]["match"]["right"]["set"].append("192.0.2.66")


def one_address_less(d: Any) -> None:
    expressions(d, 5)[0]["match"]["right"]["set"].pop()


def other_port(d: Any) -> None:
    expressions(d, 6)[0]["match"]["right"] = 7001


def negated(d: Any) -> None:
    expressions(d, 5)[0]["match"]["op"] = "!="


def other_flags(d: Any) -> None:
    expressions(d, 4)[0]["match"]["left"]["&"][1] = ["syn"]


def any_interface(d: Any) -> None:
    expressions(d, 3)[0]["match"]["right"] = "eth0"


def limited(d: Any) -> None:
    expressions(d, 6).insert(1, {"limit": {"rate": 5, "per": "second"}})


def named_set(d: Any) -> None:
    expressions(d, 5)[0]["match"]["right"] = "@friends"
    d["nftables"].append({"set": {"family": "inet", "table": "kbpg", "name": "friends", "type": "ipv4_addr"}})


def accepted_instead(d: Any) -> None:
    expressions(d, 6)[-1] = ACCEPT


def one_rule_more(d: Any) -> None:
    d["nftables"].insert(3, rule(match("tcp", "dport", 22), {"drop": None}))


def another_chain(d: Any) -> None:
    d["nftables"].append({"chain": {"family": "inet", "table": "kbpg", "name": "output", "handle": 9}})


@pytest.mark.parametrize(
    "change",
    [
        *(without(index) for index in range(2, 10)),
        set_at(1, "flags", ["dormant"]),
        set_at(2, "policy", "drop"),
        set_at(2, "prio", 10),
        set_at(2, "hook", "forward"),
        set_at(6, "chain", "elsewhere"),
        *(swapped, one_address_more, one_address_less, other_port, negated, other_flags, any_interface),
        *(limited, named_set, accepted_instead, one_rule_more, another_chain),
    ],
)
def test_every_difference_is_seen(change: Callable[[Any], None]) -> None:
    document = listed()
    change(document)
    assert read(document) != listing.wanted(GUARDED)


def test_a_port_without_its_drop_is_open_and_rules_behind_a_drop_do_not_count() -> None:
    document = listed()
    without(6)(document)
    assert 7000 not in listing.reach(read(document))
    document = listed()
    document["nftables"].append(rule(match("tcp", "dport", 6432), ACCEPT))
    assert listing.reach(read(document))[6432] == "10.9.0.0/16, 2001:db8::/32"
    document = listed()
    document["nftables"].insert(3, dropping(7000))
    assert listing.reach(read(document))[7000] == "nobody"


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "{}", '{"nftables": 7}', '{"nftables": [7]}'])
def test_what_is_no_listing_is_not_known(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        listing.read(text)
    with pytest.raises(NotKnown):
        RulesFact().parse(Output(0, f"confirmed\nawake\n{text}"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | hostile.anything,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(hostile.anything, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200)
@given(json_values, st.integers(2, 9), st.sampled_from(["expr", "chain", "name", "policy", "right", "left"]))
def test_hostile_listings_are_a_difference_or_not_known_and_print_on_one_line(
    value: Any, index: int, key: str
) -> None:
    document: Any = copy.deepcopy(listed())
    body = next(iter(document["nftables"][index].values()))
    if key in ("right", "left") and "expr" in body:
        body["expr"][0]["match"][key] = value
    else:
        body[key] = value
    try:
        found = read(document)
    except ValueError:
        return
    assert all(line.isascii() and line.isprintable() for line in found)


# --- what the host answers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "rules"),
    [
        (Output(44, ""), Rules()),
        (Output(45, ""), Rules(nft=False)),
        (
            Output(46, "", "Operation not permitted (you must be root)\nmore"),
            Rules(error="nft does not tell its rules: Operation not permitted (you must be root)"),
        ),
        (Output(1, "confirmed\nawake\n", "Error: JSON support not compiled-in"), None),
        (
            Output(0, f"unconfirmed\nawake\n{json.dumps(listed())}\n"),
            Rules(listing.wanted(GUARDED), unconfirmed=True),
        ),
        (Output(0, f"confirmed\nawake\n{json.dumps(listed())}\n"), Rules(listing.wanted(GUARDED))),
    ],
)
def test_answers(output: Output, rules: Rules | None) -> None:
    found = RulesFact().parse(output)
    if rules is None:
        assert "JSON support" in found.error
    else:
        assert found == rules
