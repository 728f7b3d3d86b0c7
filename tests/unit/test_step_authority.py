"""Step 00's part about certificates, on hosts made of dictionaries."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from kbpg.context import Context
from kbpg.engine.run import Run
from kbpg.errors import CredentialsError
from kbpg.hosts.fake import FakeFile, FakeHost
from kbpg.inventory import load
from kbpg.model import CONTROLLER, Status
from kbpg.pki import Pki, demand_written
from kbpg.pki.whole import pki_of
from kbpg.steps.s00_credentials import STEP

from .fake_docker import with_docker
from .pki_world import DAY, NOW
from .small_cluster import CREDENTIALS, DATABASES, HOSTS, PROXIES

OWN = "certificates:"
TRUSTED = {"db-2": "/opt/keybuzz/patroni/tls/ca.crt", "px-1": "/opt/keybuzz/pgbouncer/tls/ca.crt"}


class World:
    """A controller and five hosts that hold nothing."""

    def __init__(self, directory: Path, settings: str = "") -> None:
        path = directory / "inventory.yaml"
        path.write_text(f"cluster: {{name: kb}}\n{settings}\n{HOSTS}")
        self.inventory = load(path)
        self.directory = self.inventory.pki_path
        self.hosts = {name: with_docker(FakeHost(name)) for name in (*DATABASES, *PROXIES)}
        self.pki = pki_of(self.inventory, now=NOW)

    def apply(self, pki: Pki | None = None, limit: str = "", *, plan: bool = False) -> dict[str, Status]:
        """Run step 00 and return how each resource of certificates ended, by place and kind."""
        limited = frozenset({limit} if limit else ())
        context = Context(self.inventory, CREDENTIALS, limit=limited, pki=pki or self.pki)
        run = Run(context, self.hosts, FakeHost(CONTROLLER))
        self.report = run.plan([STEP]) if plan else run.apply([STEP])
        own = [each for each in self.report.outcomes if each.resource.startswith(OWN)]
        self.lines = [line for each in own for line in each.lines]
        kinds = {f"{OWN}{self.directory}": "files", f"{OWN}as read": "as read", f"{OWN}lost": "lost"}
        return {f"{each.place} {kinds[each.resource]}": each.status for each in own}

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.directory.glob("*")}

    def trusted_by(self, host: str) -> None:
        self.hosts[host].files[TRUSTED[host]] = FakeFile(self.pki.ca)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_they_are_written_once(world: World) -> None:
    planned = world.apply(plan=True)
    assert planned[f"{CONTROLLER} files"] is Status.DIFFERS
    assert not world.directory.exists()
    assert world.apply()[f"{CONTROLLER} files"] is Status.CHANGED
    assert set(world.files()) == set(world.pki.files())
    assert world.directory.stat().st_mode & 0o777 == 0o700
    before = world.files()
    again = world.apply(pki_of(world.inventory, now=NOW + DAY))
    assert set(again.values()) == {Status.OK}
    assert world.files() == before


def test_what_expires_is_renewed_by_name(world: World) -> None:
    world.apply()
    before = world.files()
    later = pki_of(world.inventory, now=NOW + 380 * DAY)
    assert world.apply(later, plan=True)[f"{CONTROLLER} files"] is Status.DIFFERS
    assert "db-1.crt" in "\n".join(world.lines)
    assert world.apply(later)[f"{CONTROLLER} files"] is Status.CHANGED
    changed = {name for name, content in world.files().items() if content != before[name]}
    assert changed == {f"{name}.crt" for name in (*DATABASES, *PROXIES, "kbpg")}


def test_nothing_secret_is_shown(world: World) -> None:
    world.apply(plan=True)
    world.apply()
    world.apply(pki_of(world.inventory, now=NOW, renew=True), plan=True)
    assert "outdated" in "\n".join(world.lines)
    shown = "\n".join(line for each in world.report.outcomes for line in (*each.lines, *each.commands))
    secrets = [line for key in world.pki.private_keys() for line in key.reveal().splitlines()[1:-1]]
    assert secrets
    assert not [line for line in secrets if line in shown]


@pytest.mark.parametrize("host", TRUSTED)
@pytest.mark.parametrize("limit", ["", "db-1"])
def test_no_authority_is_made_for_hosts_that_trust_one(world: World, host: str, limit: str) -> None:
    world.trusted_by(host)
    assert world.apply(limit=limit)[f"{host} lost"] is Status.FAILED
    text = "\n".join(world.lines)
    assert f"{world.directory}/ca.key is missing, but this host has" in text
    assert TRUSTED[host] in text
    assert "backup" in text
    assert not world.directory.exists()
    assert not world.inventory.credentials_path.exists()


def test_with_the_authority_hosts_that_trust_it_are_fine(world: World) -> None:
    world.apply()
    for host in TRUSTED:
        world.trusted_by(host)
    assert set(world.apply().values()) == {Status.OK}
    (world.directory / "db-2.crt").unlink()
    assert world.apply(pki_of(world.inventory, now=NOW))[f"{CONTROLLER} files"] is Status.CHANGED


def test_a_host_that_cannot_be_asked_matters_only_without_the_authority(world: World) -> None:
    away = world.hosts.pop("px-2")
    assert world.apply(limit="db-1")["px-2 lost"] is Status.FAILED
    assert not world.directory.exists()
    world.hosts["px-2"] = away
    world.apply()
    del world.hosts["px-2"]
    assert set(world.apply(limit="db-1").values()) == {Status.OK}


def test_two_first_runs_at_once_make_one_authority(world: World) -> None:
    other = pki_of(world.inventory, now=NOW)
    world.apply()
    before = world.files()
    assert world.apply(other)[f"{CONTROLLER} as read"] is Status.FAILED
    assert "run the same command again" in "\n".join(world.lines)
    assert world.files() == before


def test_a_renewal_meanwhile_is_not_undone(world: World) -> None:
    world.apply()
    read = pki_of(world.inventory, now=NOW)
    world.apply(pki_of(world.inventory, now=NOW, renew=True))
    before = world.files()
    assert world.apply(read)[f"{CONTROLLER} as read"] is Status.FAILED
    assert world.files() == before


def test_two_renewals_at_once_are_both_good(world: World) -> None:
    world.apply()
    one, two = (pki_of(world.inventory, now=NOW, renew=True) for _ in range(2))
    world.apply(one)
    assert world.apply(two)[f"{CONTROLLER} files"] is Status.CHANGED
    assert pki_of(world.inventory, now=NOW) == dataclasses.replace(two, fresh=frozenset())


def test_the_users_own_are_none_of_kbpgs_business(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.trusted_by("db-2")
    own = dataclasses.replace(world.pki, ca_key=None, fresh=frozenset())
    assert world.apply(own) == {}
    assert not world.directory.exists()


def test_what_is_only_in_memory_must_not_reach_a_host(world: World) -> None:
    with pytest.raises(CredentialsError, match=r"ca\.crt, ca\.key, db-1\.crt") as caught:
        demand_written(world.pki, world.directory)
    assert caught.value.hint == "run kbpg step 00 first"
    world.apply()
    demand_written(pki_of(world.inventory, now=NOW), world.directory)
    demand_written(pki_of(world.inventory, now=NOW + 390 * DAY, early=False), world.directory)
