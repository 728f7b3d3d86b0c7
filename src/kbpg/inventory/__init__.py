"""The inventory, and the only reader of YAML: `load(path)` gives an `Inventory` or all its problems."""

from kbpg.inventory.build import BaseImages, Build, BuildImages, Prepare
from kbpg.inventory.checks import split_jump, version_tuple
from kbpg.inventory.cluster import Cluster, Ports, Timers, Versions
from kbpg.inventory.databases import Grant, OwnDatabase, OwnRole
from kbpg.inventory.hosts import DbHost, Host, HostSsh, ProxyHost, Role, Ssh, SshSettings
from kbpg.inventory.load import load, parse
from kbpg.inventory.memory_rules import haproxy_memory, pgbouncer_memory, pooled_connections
from kbpg.inventory.models import Inventory
from kbpg.inventory.reserved import READ_SUFFIX, read_name
from kbpg.inventory.services import Haproxy, Pgbouncer, Postgresql
from kbpg.inventory.show import human_size

__all__ = [
    "READ_SUFFIX",
    "BaseImages",
    "Build",
    "BuildImages",
    "Cluster",
    "DbHost",
    "Grant",
    "Haproxy",
    "Host",
    "HostSsh",
    "Inventory",
    "OwnDatabase",
    "OwnRole",
    "Pgbouncer",
    "Ports",
    "Postgresql",
    "Prepare",
    "ProxyHost",
    "Role",
    "Ssh",
    "SshSettings",
    "Timers",
    "Versions",
    "haproxy_memory",
    "human_size",
    "load",
    "parse",
    "pgbouncer_memory",
    "pooled_connections",
    "read_name",
    "split_jump",
    "version_tuple",
]
