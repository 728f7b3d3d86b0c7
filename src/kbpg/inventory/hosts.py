"""The hosts and how SSH reaches them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from kbpg.inventory.section import Section
from kbpg.inventory.types import Address, Endpoint, HostName, JumpHost, LocalPath, SshPort, UserName

Role = Literal["db", "proxy"]


class SshSettings(Section):
    """How SSH reaches the hosts, unless a host says otherwise."""

    user: UserName = Field("root", description="login on the hosts: root, or a user with password-less sudo")
    port: SshPort = Field(22, description="SSH port of the hosts")
    key: LocalPath | None = Field(
        None, description="private key file (null: the agent and ~/.ssh/config decide)"
    )
    jump: JumpHost | None = Field(None, description="host to go through, as user@host:port (null: directly)")
    known_hosts: LocalPath | None = Field(
        None, description="file with the hosts' keys (null: ~/.ssh/known_hosts)"
    )
    connect_timeout: int = Field(10, ge=1, le=600, description="seconds to wait for a connection")
    sudo: bool = Field(True, description="whether to use sudo where the login is not root")


class HostSsh(Section):
    """What is different about SSH to this host; what is not given comes from `ssh:`."""

    host: Endpoint | None = Field(
        None, description="address or name SSH connects to (null: the host's address)"
    )
    user: UserName | None = Field(None, description="login on this host")
    port: SshPort | None = Field(None, description="SSH port of this host")
    key: LocalPath | None = Field(None, description="private key file for this host")
    jump: JumpHost | None = Field(None, description="host to go through, as user@host:port")
    known_hosts: LocalPath | None = Field(None, description="file with this host's key")
    connect_timeout: int | None = Field(None, ge=1, le=600, description="seconds to wait for a connection")
    sudo: bool | None = Field(None, description="whether to use sudo where the login is not root")


class Host(Section):
    """One server. Compares and hashes by value, so it can be a dictionary's key."""

    role: ClassVar[Role]

    name: HostName = Field(description="the host's name; on a db host also Patroni's member name")
    address: Address = Field(
        description="IPv4 address in the cluster's network, by which the other hosts reach this one"
    )
    ssh: HostSsh = Field(HostSsh(), description="what is different about SSH to this host")

    def __str__(self) -> str:
        return self.name


class DbHost(Host):
    """A host that runs Patroni and PostgreSQL."""

    role: ClassVar[Role] = "db"


class ProxyHost(Host):
    """A host that runs HAProxy and PgBouncer."""

    role: ClassVar[Role] = "proxy"


@dataclass(frozen=True)
class Ssh:
    """How to reach one host: everything merged, paths absolute.

    `given` names the settings that the inventory states, for the host or for all: what it does not state,
    ~/.ssh/config may.
    """

    host: str
    port: int
    user: str
    key: Path | None
    jump: str | None
    known_hosts: Path
    connect_timeout: int
    sudo: bool
    given: frozenset[str]
