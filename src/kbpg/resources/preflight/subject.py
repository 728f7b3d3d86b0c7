"""What a check judges, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from kbpg.context import Context
from kbpg.facts import Fact, Facts
from kbpg.inventory import Host, Inventory
from kbpg.resources.docker import ContainersFact
from kbpg.resources.preflight.ports import Needed

T = TypeVar("T")


@dataclass(frozen=True)
class Problem:
    """What is wrong, what was wanted, and what a person can do about it; `detail` are lines of their own."""

    text: str
    hint: str
    detail: tuple[str, ...] = ()


@dataclass(frozen=True)
class Needs:
    """What a role asks of its host: ports, open files per program, directories that need room, others to mount."""

    containers: ContainersFact
    ports: tuple[Needed, ...]
    open_files: Mapping[str, int]
    directories: tuple[str, ...]
    mounts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subject:
    """A host, what it is needed for, and what is known; `context` is there where the check is of a whole cluster."""

    inventory: Inventory
    host: Host
    needs: Needs
    facts: Facts
    context: Context | None = None

    def see(self, fact: Fact[T]) -> T:
        """Return the host's answer; raises `NotKnown`."""
        return self.facts.get(fact, self.host.name)

    def all(self, fact: Fact[T], *, db: bool = False) -> dict[str, T]:
        """Return the answers of all (db) hosts that gave one, by name."""
        hosts = self.inventory.db if db else self.inventory.hosts
        found = {host.name: self.facts.known(fact, host.name) for host in hosts}
        return {name: answer for name, answer in found.items() if answer is not None}
