"""Who listens on the ports that kbpg's programs need."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kbpg.facts import NotKnown, ShellFact
from kbpg.hosts.port import Output
from kbpg.inventory.networks import EVERYWHERE

ANY = frozenset({"0.0.0.0", "*", "::"})  # noqa: S104 (recognised, not bound)
"""Addresses of listeners that take every address. `ss` writes `*` for IPv6 and IPv4 in one, `[::]` for IPv6 alone."""

_CONTAINER = re.compile(r"[0-9a-f]{64}")
_USER = re.compile(r'\("((?:[^"\\]|\\.)*)",pid=(\d+)')


@dataclass(frozen=True)
class Needed:
    """A port that `container` will listen on, at each of `addresses`; `what` names it for a message."""

    port: int
    what: str
    container: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Listener:
    """One listening socket; `pid` 0 and no `process` where the kernel does not tell, or who held it is gone;
    `containers` are the ids in the control groups of all who hold it, without the host's own."""

    address: str
    port: int
    process: str = ""
    pid: int = 0
    containers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ports:
    """The listeners on the ports asked for, and the host's own IPv4 addresses (empty: not known)."""

    listeners: tuple[Listener, ...] = ()
    addresses: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class PortsFact(ShellFact[Ports]):
    """The listeners on `ports`, by `ss`, or without it by /proc, which does not name the process."""

    ports: tuple[int, ...]

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"ports:{','.join(map(str, self.ports))}"

    @property
    def script(self) -> str:
        """Return the fragment."""
        wanted = " or ".join(f"sport = :{port}" for port in self.ports)
        return (
            "if command -v ss >/dev/null; then "
            f'found=$(ss -Hltnp "( {wanted} )") || exit; printf "%s\\n" "$found"; '
            'for pid in $(printf %s "$found" | grep -o "pid=[0-9]*" | sort -u); do pid=${pid#pid=}; '
            'while read -r line; do echo "cgroup $pid $line"; done 2>/dev/null </proc/$pid/cgroup; done; '
            # Where the host is a container itself, that one is not the listener's
            '[ "$found" ] && while read -r line; do echo "cgroup 0 $line"; done </proc/self/cgroup; '
            "else for f in tcp tcp6; do while read -r _ at _ state _; do "
            '[ "$state" = 0A ] && echo "proc $at"; done 2>/dev/null </proc/net/$f; done; fi; '
            'ip -o -4 addr show 2>/dev/null | while read -r _ _ _ at _; do echo "address ${at%/*}"; done; true'
        )

    def parse(self, output: Output) -> Ports:
        """Read the answer."""
        if not output.ok:
            raise NotKnown(f"`ss` fails: {output.stderr.strip() or output.status}")
        lines = [line.split() for line in output.stdout.splitlines() if line.strip()]
        groups: dict[int, list[str]] = {}
        for words in lines:
            if words[0] == "cgroup" and len(words) > 2:
                groups.setdefault(int(words[1]), []).extend(_CONTAINER.findall(" ".join(words[2:])))
        own = set(groups.get(0, ()))
        groups = {pid: [each for each in ids if each not in own] for pid, ids in groups.items()}
        found = [each for words in lines for each in _listeners(words, groups)]
        addresses = frozenset(words[1] for words in lines if words[0] == "address")
        return Ports(tuple(each for each in found if each.port in self.ports), addresses)


def _listeners(words: Sequence[str], groups: Mapping[int, Sequence[str]]) -> Iterable[Listener]:
    if words[0] == "proc":
        yield _from_proc(words[1])
    elif words[0] == "LISTEN":
        host, _, port = words[3].rpartition(":")
        # `%lo` names the device that a socket is bound to
        address = host.split("%")[0]
        users = [(process, int(pid)) for process, pid in _USER.findall(" ".join(words[5:]))]
        # A child shares its parent's socket for a moment after a fork, and may be gone when its groups are read
        there = [user for user in users if user[1] in groups or not groups]
        process, pid = there[0] if there else ("", 0)
        containers = tuple(dict.fromkeys(each for _, holder in there for each in groups.get(holder, ())))
        yield Listener(address, int(port), process, pid, containers)


def _from_proc(text: str) -> Listener:
    """Read `0100007F:1538`: 32-bit words, each in the machine's (little-endian) byte order, and the port."""
    host, port = text.split(":")
    raw = b"".join(bytes.fromhex(host[i : i + 8])[::-1] for i in range(0, len(host), 8))
    if len(raw) == 4 or raw.startswith(b"\0" * 10 + b"\xff\xff"):
        address = ".".join(map(str, raw[-4:]))
    else:
        address = "::" if not any(raw) else "IPv6"
    return Listener(address, int(port, 16))


def collisions(
    needed: Sequence[Needed], ports: Ports, containers: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return one line for each port that somebody else holds.

    `containers`: kbpg's own, by name, as `docker inspect` shows them; theirs are the only ones that may listen.
    """
    lines = []
    for need in needed:
        ours = containers.get(need.container)
        for each in ports.listeners:
            if each.port == need.port and _collides(each, need) and not _is(each, ours):
                lines.append(f"{need.port} ({need.what}) is held on {each.address} by {_holder(each)}")
    return list(dict.fromkeys(lines))


def _collides(listener: Listener, need: Needed) -> bool:
    if listener.address in ANY or listener.address in need.addresses:
        return True
    return (
        EVERYWHERE in need.addresses and listener.address.count(".") == 3
    )  # which no IPv6 address has alone


def _is(listener: Listener, container: Mapping[str, Any] | None) -> bool:
    if container is None:
        return False
    if not listener.pid:
        # Who it is cannot be known: our container, if it runs.
        return bool(container.get("State", {}).get("Status") == "running")
    return str(container["Id"]) in listener.containers


def _holder(listener: Listener) -> str:
    if not listener.pid:
        return "a process that cannot be named"
    inside = f" in container {listener.containers[-1][:12]}" if listener.containers else ""
    return f"{listener.process} (pid {listener.pid}){inside}"
