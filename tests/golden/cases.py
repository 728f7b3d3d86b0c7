"""The three inventories whose rendered files are kept, and how they are rendered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kbpg import dynamic, tuning
from kbpg.context import Context
from kbpg.credentials import Credentials
from kbpg.firewall import policy
from kbpg.inventory import Host, Inventory, load
from kbpg.pki.whole import pki_of
from kbpg.render import render
from kbpg.secret import Secret
from kbpg.steps.certificates import certificate_files
from kbpg.tls import DIRECTORY, Transport

HERE = Path(__file__).parent
GB = 1024**3
PLAIN = "correct-horse-battery-staple"
ODD = "a'b\"c$d\\e%f@g:h/i ü€😀;#{{ x }}"


@dataclass(frozen=True)
class Case:
    """An inventory, the hardware of its db hosts, and a password for every role."""

    name: str
    inventory_path: Path
    memory: int
    cores: int
    password: str

    @property
    def inventory(self) -> Inventory:
        return load(self.inventory_path)

    def files(self) -> dict[str, str]:
        """Return every rendered file by its path below the case's directory."""
        inventory = self.inventory
        parameters = tuning.parameters(self.memory, self.cores, inventory)
        common = {
            "inventory": inventory,
            "credentials": credentials(self.password),
            "rest_user": "kbpg",
            "tls": Transport(inventory.tls.mode),
        }
        found = {
            "patroni/Dockerfile": render("patroni/Dockerfile.j2", **common),
            "haproxy/Dockerfile": render("haproxy/Dockerfile.j2", **common),
            "pgbouncer/Dockerfile": render("pgbouncer/Dockerfile.j2", **common),
            "pgbouncer/userlist.txt": render("pgbouncer/userlist.txt.j2", **common),
            "patroni/bootstrap.yml": render(
                "patroni/bootstrap.yml.j2", dynamic=dynamic.configuration(inventory, parameters), **common
            ),
            "sql/pgbouncer_auth.sql": render("sql/pgbouncer_auth.sql.j2", **common),
            "sql/pgbouncer_user_lookup.body.sql": render("sql/pgbouncer_user_lookup.body.sql.j2", **common),
        }
        for node in (inventory.db[0], inventory.db[-1]):
            for name in ("patroni.yml", "secrets.yml"):
                found[f"patroni/{node.name}/{name}"] = render(f"patroni/{name}.j2", host=node, **common)
        for host in inventory.proxies:
            for name in ("haproxy/haproxy.cfg", "pgbouncer/pgbouncer.ini"):
                program, file = name.split("/")
                found[f"{program}/{host.name}/{file}"] = render(f"{name}.j2", host=host, **common)
        for each in (inventory.db[0], inventory.proxies[0]):
            found[f"firewall/{each.name}/firewall.nft"] = policy.rules_file(inventory, each).decode()
        found[f"firewall/{policy.UNIT}"] = policy.unit_file(inventory).decode()
        return found


def certificates(inventory: Inventory, host: Host, program: str) -> dict[str, str]:
    """Return a host's certificates, issued anew, by the path at which `program` reads them in its container."""
    context = Context(inventory, credentials(PLAIN), pki=pki_of(inventory))
    found = certificate_files(context, host, bundle=program == "haproxy")
    return {f"/etc/{program}/{DIRECTORY}/{name}": content.decode() for name, content in found.items()}


def credentials(password: str) -> Credentials:
    """Return credentials with one password for all; the REST API's is ASCII, Patroni cannot send another."""
    secret = Secret(password)
    return Credentials(
        superuser="kb_admin",
        app_user="kb_app",
        superuser_password=secret,
        app_password=secret,
        replication_password=secret,
        rewind_password=secret,
        pgbouncer_password=secret,
        raft_password=secret,
        rest_password=Secret(password.encode("ascii", "ignore").decode()),
    )


CASES = (
    Case("default", HERE.parents[1] / "inventory.yaml", 8 * GB, 4, PLAIN),
    Case("five", HERE / "five" / "inventory.yaml", 64 * GB + 5_000_000, 16, PLAIN),
    Case("old", HERE / "old" / "inventory.yaml", GB, 1, ODD),
)
