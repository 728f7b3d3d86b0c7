"""The kernel's rules read back: `nft -j list table` in a normal form that does not depend on nft's version.

libnftables-json(5) fixes the frame, but not every detail: masks of flags are a list, nested or flat `|`, a set of
one element may be the element itself, neighbouring networks may come as a range, and what a match implies may be
spelt out. So addresses are compared as addresses, flags as sets, and the order of a rule's matches does not count;
the order of rules does. What kbpg never writes is kept as it is: it is a difference, not something to be ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network, summarize_address_range
from typing import Any

from kbpg.firewall.policy import Guarded, Network, merged, shown

TABLE, CHAIN = "kbpg", "input"
CHAIN_LINE = f"chain {CHAIN}: type filter hook input priority 0 policy accept"
LOOPBACK = "iifname lo accept"
NO_ATTEMPT = "tcp flags & ack,fin,rst,syn != syn accept"

_FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr")
"""By their bit, from the lowest (RFC 9293, 3.1); some versions print a mask as a number."""
_WORD = re.compile(r"[A-Za-z0-9_./:@-]{1,64}")
_RULE = re.compile(r"(?:ip6? saddr (?P<sources>.+) )?tcp dport (?P<port>\d+) (?P<verdict>accept|drop)")


def wanted(guarded: Sequence[Guarded]) -> tuple[str, ...]:
    """Return the normal form of the rules for these ports."""
    lines = [CHAIN_LINE, LOOPBACK, NO_ATTEMPT]
    for each in guarded:
        if each.sources is not None:
            lines += [
                f"{family} saddr {', '.join(sources)} tcp dport {each.port} accept"
                for family, sources in each.families
            ]
            lines.append(f"tcp dport {each.port} drop")
    return tuple(lines)


def read(text: str) -> tuple[str, ...]:
    """Return the normal form of a listing. Raises ValueError for what is no listing of nft's."""
    try:
        objects = [next(iter(each.items())) for each in json.loads(text)["nftables"]]
        found = [line for kind, body in objects if (line := _object(kind, body))]
    except (LookupError, AttributeError, StopIteration, TypeError) as error:
        raise ValueError(f"no listing of nft: {error!r}") from error
    # Rules keep their order; what else there is comes before them, wherever nft puts it
    heads = sorted(line for is_rule, line in found if not is_rule)
    return (*heads, *(line for is_rule, line in found if is_rule))


def reach(lines: Iterable[str]) -> dict[int, str]:
    """Return, for each port that somebody is kept from, who is let through before that."""
    let: dict[int, list[str]] = {}
    closed: dict[int, str] = {}
    for line in lines:
        if not (rule := _RULE.fullmatch(line)):
            continue
        port = int(rule["port"])
        if port in closed:
            continue
        if rule["verdict"] == "accept":
            let.setdefault(port, []).append(rule["sources"] or "everyone")
        elif not rule["sources"]:
            closed[port] = ", ".join(let.get(port, ())) or "nobody"
    return closed


def _object(kind: str, body: Mapping[str, Any]) -> tuple[bool, str] | None:
    if kind == "metainfo":
        return None
    if kind == "table":
        flags = body.get("flags")  # dormant: the rules are there and do nothing
        return (False, f"table flags {_plain(flags)}") if flags else None
    if kind == "chain":
        return False, _chain(body)
    if kind == "rule":
        where = "" if body["chain"] == CHAIN else f"{_word(body['chain'])}: "
        return True, where + _rule(body["expr"])
    return False, f"{_word(kind)} {_word(body.get('name'))}"


def _chain(body: Mapping[str, Any]) -> str:
    name = f"chain {_word(body['name'])}"
    if "hook" not in body:
        return name
    at = f"type {_word(body['type'])} hook {_word(body['hook'])} priority {_word(body['prio'])}"
    return f"{name}: {at} policy {_word(body.get('policy'))}"


def _rule(expressions: Sequence[Mapping[str, Any]]) -> str:
    matches: list[str] = []
    verdicts: list[str] = []
    for each in expressions:
        kind, body = next(iter(each.items()))
        if kind == "match":
            matches.append(_match(body))
        elif kind in ("accept", "drop"):
            verdicts.append(kind)
        elif kind != "counter":
            verdicts.append(_plain(each))
    return " ".join([*sorted(_without_implied(matches)), *verdicts])


def _without_implied(matches: Sequence[str]) -> list[str]:
    implied = {
        "meta l4proto tcp": "tcp ",
        "meta l4proto 6": "tcp ",
        "meta nfproto ipv4": "ip saddr ",
        "meta nfproto ipv6": "ip6 saddr ",
    }
    return [
        each
        for each in matches
        if each not in implied or not any(other.startswith(implied[each]) for other in matches)
    ]


def _match(body: Mapping[str, Any]) -> str:
    left, operator, right = body["left"], body["op"], body["right"]
    equal = operator in ("==", "in")
    try:
        if "meta" in left and equal:
            return (
                f"{'' if left['meta']['key'] == 'iifname' else 'meta '}{left['meta']['key']} {_word(right)}"
            )
        if "&" in left:
            field, mask = left["&"]
            if field["payload"] == {"protocol": "tcp", "field": "flags"} and operator in ("==", "!="):
                return f"tcp flags & {_flags(mask)} {operator} {_flags(right)}"
        protocol, name = left["payload"]["protocol"], left["payload"]["field"]
        if equal and (protocol, name) == ("tcp", "dport"):
            return f"tcp dport {_port(right)}"
        if equal and protocol in ("ip", "ip6") and name == "saddr":
            return f"{protocol} saddr {', '.join(map(shown, merged(_networks(right))))}"
    except (LookupError, TypeError, ValueError):
        pass  # a form that kbpg does not write
    return _plain({"match": body})


def _port(value: Any) -> int:
    if isinstance(value, dict):
        (value,) = value["set"]
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("no port")
    return value


def _flags(value: Any) -> str:
    return ",".join(sorted(_flag_names(value)))


def _flag_names(value: Any) -> set[str]:
    if isinstance(value, dict):
        value = value["|"]
    if isinstance(value, list):
        return set().union(*map(_flag_names, value))
    if isinstance(value, int):
        if not 0 <= value < 1 << len(_FLAGS):
            raise ValueError("no flags of TCP")
        return {name for bit, name in enumerate(_FLAGS) if value >> bit & 1}
    if value not in _FLAGS:
        raise ValueError("no flag of TCP")
    return {value}


def _networks(value: Any) -> list[Network]:
    if isinstance(value, list):
        return [network for each in value for network in _networks(each)]
    if isinstance(value, str):
        return [ip_network(value)]
    if "set" in value:
        return _networks(value["set"])
    if "prefix" in value:
        return [ip_network(f"{value['prefix']['addr']}/{value['prefix']['len']}")]
    first, last = (ip_address(text) for text in value["range"])
    return list(summarize_address_range(first, last))  # TypeError where they are of two versions


def _word(value: Any) -> str:
    text = str(value)
    return text if _WORD.fullmatch(text) else json.dumps(text)


def _plain(value: Any) -> str:
    """Return JSON on one line, ASCII alone: what a host says may hold anything."""
    return json.dumps(value, sort_keys=True)
