"""The hosts and how SSH reaches them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from kbpg.inventory.section import Section
from kbpg.inventory.types import (
    Address,
    Endpoint,
    Fingerprints,
    HostName,
    JumpHost,
    LocalPath,
    SshPort,
    UserName,
)

Role = Literal["db", "proxy"]


class SshSettings(Section):
    """How SSH reaches the hosts, unless a host says otherwise."""

    user: UserName | None = Field(
        None,
        description="login, root or a user who may sudo everything (null: ~/.ssh/config, else root)",
    )
    port: SshPort | None = Field(None, description="SSH port of the hosts (null: ~/.ssh/config, else 22)")
    key: LocalPath | None = Field(
        None,
        description="private key file; its certificate KEY-cert.pub is used too (null: ~/.ssh/config and the agent)",
    )
    jump: JumpHost | None = Field(
        None, description="host to go through, as user@host:port (null: ~/.ssh/config, else directly)"
    )
    jump_fingerprint: Fingerprints = Field(
        (),
        description="fingerprint of the jump host's key, SHA256:…, or a list; no other is taken (empty: known_hosts)",
    )
    known_hosts: LocalPath | None = Field(
        None, description="file with the hosts' keys (null: ~/.ssh/config, else ~/.ssh/known_hosts)"
    )
    connect_timeout: float = Field(10, ge=1, le=600, description="seconds each stage of a login may take")
    sudo: bool = Field(
        True,
        description="whether to use sudo where the login is not root; a password that it wants is asked for once",
    )


class HostSsh(Section):
    """What is different about SSH to this host; what is not given comes from `ssh:`."""

    host: Endpoint | None = Field(
        None, description="address or name SSH connects to (null: ~/.ssh/config, else the host's address)"
    )
    user: UserName | None = Field(None, description="login on this host")
    port: SshPort | None = Field(None, description="SSH port of this host")
    key: LocalPath | None = Field(None, description="private key file for this host")
    jump: JumpHost | None = Field(None, description="host to go through, as user@host:port")
    jump_fingerprint: Fingerprints = Field(
        (),
        description="fingerprint of this jump host's key; comes from `ssh:` only together with jump",
    )
    fingerprint: Fingerprints = Field(
        (),
        description="fingerprint of this host's key, SHA256:… as ssh-keygen -l prints it, or a list for several key "
        "types; no other key is taken, and nobody is asked (empty: known_hosts)",
    )
    known_hosts: LocalPath | None = Field(None, description="file with this host's key")
    connect_timeout: float | None = Field(
        None, ge=1, le=600, description="seconds each stage of a login may take"
    )
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
    """How the inventory wants one host reached: the host's own settings over those of all, paths absolute.

    None is what the inventory does not say: there ~/.ssh/config decides, then SSH's defaults and the host's
    address.
    """

    host: str | None
    port: int | None
    user: str | None
    key: Path | None
    jump: str | None
    known_hosts: Path | None
    connect_timeout: float
    sudo: bool
    fingerprints: tuple[str, ...] = ()
    jump_fingerprints: tuple[str, ...] = ()
