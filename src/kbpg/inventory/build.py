"""How images are built, and what is done to the hosts before."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from kbpg.inventory.networks import Network as ClientNetwork
from kbpg.inventory.section import Section
from kbpg.inventory.show import shown
from kbpg.inventory.types import FreeText, Image, LocalPath, Size, Text, as_plain

GB = 1024**3


def _argument_name(value: str) -> str:
    if not value.isascii() or not value.isidentifier():
        raise ValueError(f"wanted the name of a build argument: {shown(value)}")
    return value


def _network(value: str) -> str:
    if any(c.isspace() for c in value) or value.startswith("-"):
        raise ValueError(f"wanted the name of a Docker network such as host: {shown(value)}")
    return value


def _package(value: str) -> str:
    # Debian Policy 5.6.1, and 5.6.12 for the version
    if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9][A-Za-z0-9.+~:-]*)?", value):
        raise ValueError(f"wanted the name of a Debian package such as pgbackrest: {shown(value)}")
    return value


PackageName = Annotated[Text, AfterValidator(_package), WithJsonSchema({"type": "string"})]
ArgumentName = Annotated[str, AfterValidator(_argument_name), WithJsonSchema({"type": "string"})]
Network = Annotated[Text, AfterValidator(_network), WithJsonSchema({"type": "string"})]
Builder = Annotated[Literal["auto", "controller", "first_db"], BeforeValidator(as_plain)]
Care = Annotated[Literal["managed", "report"], BeforeValidator(as_plain)]
Firewall = Annotated[Literal["managed", "off"], BeforeValidator(as_plain)]


class BuildImages(Section):
    """Base images, where they are not the ones that follow from `versions`."""

    python: Image | None = Field(
        None, description="base of the Patroni image (null: python:PYTHON-slim-trixie)"
    )
    pgvector: Image | None = Field(
        None,
        description="source of PostgreSQL and pgvector (null: pgvector/pgvector:PGVECTOR-pgMAJOR-trixie)",
    )
    debian: Image | None = Field(
        None, description="base of the HAProxy and PgBouncer images (null: debian:trixie-slim)"
    )


@dataclass(frozen=True)
class BaseImages:
    """The base images to use: the inventory's, or those that follow from the versions."""

    python: str
    pgvector: str
    debian: str


class Build(Section):
    """Where and how the images are built."""

    on: Builder = Field(
        "auto",
        description="controller, first_db, or auto: the controller if it has Docker, else the first db host",
    )
    ca_bundle: LocalPath | None = Field(
        None,
        description="PEM file with the certificate authorities that builds trust (null: the base image's)",
    )
    args: dict[ArgumentName, FreeText] = Field(
        {}, description="build arguments, such as a proxy's address; no secrets"
    )
    network: Network | None = Field(
        None, description="Docker network of the build, such as host (null: Docker's default)"
    )
    wheels: LocalPath | None = Field(
        None, description="directory of Python wheels to install Patroni from (null: the package index)"
    )
    packages: Annotated[tuple[PackageName, ...], Field(strict=False)] = Field(
        (),
        description="Debian packages that the Patroni image has besides, such as [pgbackrest]; a version may be "
        "pinned with =",
    )
    revision: FreeText = Field("", description="any text; a change rebuilds the images")
    images: BuildImages = Field(BuildImages(), description="base images, where they are not the default ones")


class Prepare(Section):
    """What step 01 may change on the hosts, and what it asks of them."""

    install_docker: bool = Field(True, description="whether to install Docker where it is missing")
    sysctls: Care = Field(
        "managed", description="managed: kernel settings are set; report: they are only read"
    )
    clock: Care = Field(
        "managed", description="managed: a time service is set up; report: the clock is only read"
    )
    firewall: Firewall = Field(
        "off",
        description="managed: rules of the hosts' kernel (nftables) say who may connect to kbpg's ports, and to "
        "nothing else, docs/firewall.md; off: no rules, those of an earlier managed are removed",
    )
    allowed_clients: Annotated[tuple[ClientNetwork, ...], Field(strict=False)] | None = Field(
        None,
        description="networks and addresses whose programs may connect to the proxies with firewall: managed, such "
        "as [10.20.0.0/16]; the hosts always may (null: everyone)",
    )
    minimum_disk: Size = Field(
        5 * GB,
        description="bytes that must be free under base_dir to install; 256 MB once the host holds the cluster",
    )
    max_clock_skew: float = Field(
        0.5, gt=0, le=60, description="seconds the hosts' clocks may differ; Raft's leases depend on them"
    )
