"""Passwords that the credentials file lacks are taken over from the cluster that uses them, never made up anew.

Nodes with different Raft passwords do not hear each other, and a replication password that only the file knows
stops every replica at its next connection. So a file with the mission's four names is completed from the hosts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kbpg.adoption.in_use import PatroniInUse, PatroniInUseFact, PoolerInUseFact
from kbpg.credentials import Found
from kbpg.credentials.limits import password_problems
from kbpg.engine.gather import gather
from kbpg.errors import CredentialsError
from kbpg.facts import Fact, Facts, Knowledge, NotKnown
from kbpg.hosts.port import Reader
from kbpg.inventory import Inventory
from kbpg.layout import REPLICATION_USER, REWIND_USER, Layout
from kbpg.model import CLUSTER
from kbpg.patroni import REST_USER
from kbpg.secret import Secret

VITAL = "RAFT_PASS"
"""The one password that must not be made up while a node runs: with another one the members part."""


@dataclass(frozen=True)
class Taken:
    """The passwords found on the hosts, by their names in the file, and what came in the way.

    `differing`: for a name, what the hosts say in different ways; `unread`: hosts whose Patroni cannot be read;
    `unfit`: for a name, why the password that is in use cannot stand in the file.
    """

    values: Mapping[str, Secret] = field(default_factory=dict)
    differing: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)
    unfit: Mapping[str, str] = field(default_factory=dict)
    seen: Sequence[Secret] = ()

    def completing(self, found: Found) -> Found:
        """Return the file as if it held what it lacks and the hosts told."""
        more = {name: value for name, value in self.values.items() if name in found.missing}
        return replace(found, values={**found.values, **more})


def passwords_of(running: PatroniInUse) -> dict[str, Secret]:
    """Return what one Patroni tells, by names of the file: those of kbpg's own role names alone."""
    found = {"RAFT_PASS": running.raft} if running.raft else {}
    users = {"replication": ("POSTGRES_REPLICATION_PASS", REPLICATION_USER)}
    users["rewind"] = ("POSTGRES_REWIND_PASS", REWIND_USER)
    for kind, (name, user) in users.items():
        login = running.roles.get(kind)
        if login and login[0] == user:
            found[name] = login[1]
    if running.rest and running.rest[0] == REST_USER:
        found["PATRONI_REST_PASS"] = running.rest[1]
    return found


def compared(told: Mapping[str, Mapping[str, Secret]]) -> tuple[dict[str, Secret], dict[str, list[str]]]:
    """Return what all hosts that tell agree on, and for the other names the hosts that differ. Pure."""
    agreed: dict[str, Secret] = {}
    differing: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for each in told.values() for name in each):
        by_host = {host: each[name] for host, each in told.items() if name in each}
        if len(set(by_host.values())) == 1:
            agreed[name] = next(iter(by_host.values()))
        else:
            differing[name] = list(by_host)
    return agreed, differing


def unfit(passwords: Mapping[str, Secret]) -> dict[str, str]:
    """Return those that a credentials file cannot hold, by its names, and why: a host's answer may be anything."""
    problems = {name: next(password_problems(name, value), "") for name, value in passwords.items()}
    return {name: why for name, why in problems.items() if why}


def take_over(inventory: Inventory, hosts: Mapping[str, Reader]) -> Taken:
    """Ask the connected hosts what they run with. Nothing is changed and nothing is raised."""
    paths = Layout(inventory.cluster.base_dir)
    patroni = PatroniInUseFact(f"{paths.patroni}/secrets.yml")
    pooler = PoolerInUseFact(f"{paths.pgbouncer}/userlist.txt")
    wanted: dict[str, list[Fact[object]]] = {h.name: [patroni] for h in inventory.db if h.name in hosts}
    wanted |= {h.name: [pooler] for h in inventory.proxies if h.name in hosts}
    knowledge = Knowledge()
    gather(hosts, knowledge, wanted)
    facts = Facts(knowledge, CLUSTER)
    told: dict[str, dict[str, Secret]] = {}
    unread: dict[str, str] = {}
    seen: list[Secret] = []
    for host in (h.name for h in inventory.db if h.name in hosts):
        try:
            running = facts.get(patroni, host)
        except NotKnown as reason:
            unread[host] = reason.reason
            continue
        if running:
            told[host] = passwords_of(running)
            seen += running.secrets()
    for host in (h.name for h in inventory.proxies):
        if password := facts.known(pooler, host):
            told[host] = {"PGBOUNCER_AUTH_PASS": password}
            seen.append(password)
    agreed, differing = compared(told)
    unusable = unfit(agreed)
    fit = {name: value for name, value in agreed.items() if name not in unusable}
    return Taken(fit, differing, unread, unusable, tuple(seen))


def completed(found: Found, taken: Taken, *, strict: bool) -> Found:
    """Return the file with what it lacks from the hosts; what nobody tells stays missing.

    Raises `CredentialsError` with `strict` where a password that is missing is in use and cannot be told: making
    up another one would part the members of Raft, or lock somebody out.
    """
    whole = taken.completing(found)
    problems = [f"{found.path}: {problem}" for problem in _in_the_way(taken, whole.missing)]
    if strict and problems:
        change = any(name in whole.missing for name in taken.unfit)
        hint = "put the passwords that are in use into the file by hand"
        raise CredentialsError("\n".join(problems), hint="change it on the hosts first" if change else hint)
    return whole


def _in_the_way(taken: Taken, missing: Collection[str]) -> Iterator[str]:
    """Yield why names that are missing cannot be told."""
    for name, hosts in taken.differing.items():
        if name in missing:
            yield f"{name}: missing, and the hosts use different ones: {', '.join(hosts)}"
    for name, why in taken.unfit.items():
        if name in missing:
            yield f"{name}: missing, and the one in use {why}"
    if VITAL in missing:
        for host, why in taken.unread.items():
            yield f"{VITAL}: missing, and {host} has one that cannot be read: {why}"
