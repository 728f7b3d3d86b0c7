"""Step 00: passwords are made once, completed, and never made up for a cluster that exists."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest

from kbpg import credentials
from kbpg.context import Context
from kbpg.engine.run import Run
from kbpg.hosts.fake import FakeDirectory, FakeFile, FakeHost
from kbpg.hosts.port import Output
from kbpg.inventory import load
from kbpg.model import CONTROLLER, Status
from kbpg.pki.whole import pki_of
from kbpg.resources.docker import LABEL_SPEC
from kbpg.resources.foreign import DataFact
from kbpg.steps.s00_credentials import STEP

from .fake_docker import with_docker
from .small_cluster import CREDENTIALS, DATABASES, HOSTS, PROXIES

PGDATA = "/opt/keybuzz/postgres/data/pgdata"
RECORD = "/opt/keybuzz/kbpg/cluster.json"


class World:
    def __init__(self, directory: Path) -> None:
        path = directory / "inventory.yaml"
        path.write_text(f"cluster: {{name: kb}}\n{HOSTS}")
        inventory = load(path)
        self.context = Context(inventory, CREDENTIALS, pki=pki_of(inventory))
        self.file = self.context.inventory.credentials_path
        self.hosts = {name: with_docker(FakeHost(name)) for name in (*DATABASES, *PROXIES)}

    def apply(self, limit: str | None = None) -> dict[str, Status]:
        limited = replace(self.context, limit=frozenset({limit} if limit else ()))
        run = Run(limited, self.hosts, FakeHost(CONTROLLER))
        self.report = run.apply([STEP])
        return {
            outcome.place: outcome.status
            for outcome in self.report.outcomes
            if not outcome.resource.startswith("certificates:")  # tested in test_step_authority.py
        }

    def write(self, text: str) -> None:
        self.file.parent.mkdir(exist_ok=True)
        self.file.write_text(text)
        self.file.chmod(0o600)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_missing_file_is_written_once(world: World) -> None:
    assert world.apply() == {
        **dict.fromkeys((*DATABASES, *PROXIES), Status.OK),
        CONTROLLER: Status.CHANGED,
    }
    assert world.file.stat().st_mode & 0o777 == 0o600
    found = credentials.load(world.file)
    assert found is not None
    assert credentials.complete(found) == CREDENTIALS
    before = world.file.read_bytes()
    assert world.apply()[CONTROLLER] is Status.OK
    assert world.file.read_bytes() == before


MISSIONS = (
    "# by hand\nPOSTGRES_SUPERUSER=kb_admin\nPOSTGRES_SUPERPASS='one-superuser-password'\n"
    "POSTGRES_APP_USER=kb_app\nPOSTGRES_APP_PASS='two-application-password'\n"
)


def test_the_missions_four_names_are_completed_and_left_as_they_are(world: World) -> None:
    world.write(MISSIONS)
    assert world.apply()[CONTROLLER] is Status.CHANGED
    assert world.file.read_text().startswith(MISSIONS)
    found = credentials.load(world.file)
    assert found is not None
    assert found.missing == ()
    assert world.apply()[CONTROLLER] is Status.OK


def test_a_file_that_others_can_read_is_closed(world: World) -> None:
    world.apply()
    world.file.chmod(0o644)
    assert world.apply()[CONTROLLER] is Status.CHANGED
    assert world.file.stat().st_mode & 0o777 == 0o600


def born(host: FakeHost) -> None:
    host.files[RECORD] = FakeFile(b'{"cluster": "kb", "system_identifier": "7711"}\n')


def data(host: FakeHost) -> None:
    host.directories[PGDATA] = FakeDirectory("999:999", 0o700)


def container(host: FakeHost, name: str = "patroni", **labels: str) -> None:
    host.containers[name] = {"Name": f"/{name}", "State": {}, "Id": "a" * 64, "Config": {"Labels": labels}}


@pytest.mark.parametrize(
    ("trace", "said"),
    [
        (born, f"a record in {RECORD}"),
        (data, f"data in {PGDATA}"),
        (container, "container patroni"),
    ],
)
@pytest.mark.parametrize("limit", [None, "db-1"])
def test_no_passwords_are_made_up_for_a_cluster_that_exists(
    trace: object, said: str, limit: str | None, world: World
) -> None:
    """Also when the run is limited to another host."""
    trace(world.hosts["db-3"])  # type: ignore[operator]
    found = world.apply(limit)
    assert found == {
        "db-1": Status.OK,
        "db-2": Status.OK,
        "db-3": Status.FAILED,
        **dict.fromkeys(PROXIES, Status.OK),
        CONTROLLER: Status.NOT_ATTEMPTED,
    }
    (failed,) = world.report.of(Status.FAILED)
    assert failed.lines[0] == f"{world.file} is missing, but this host holds {said}"
    assert failed.lines[1].startswith("hint: restore the file from a backup")
    assert not world.file.exists()


@pytest.mark.parametrize("name", ["haproxy", "pgbouncer"])
@pytest.mark.parametrize("limit", [None, "db-1"])
def test_a_proxy_that_serves_a_cluster_is_a_trace_of_it(name: str, limit: str | None, world: World) -> None:
    container(world.hosts[PROXIES[1]], name, **{LABEL_SPEC: "1f"})
    found = world.apply(limit)
    assert {place for place, status in found.items() if status is Status.FAILED} == {PROXIES[1]}
    (failed,) = world.report.of(Status.FAILED)
    assert failed.lines[0] == f"{world.file} is missing, but this host holds container {name}"
    assert not world.file.exists()


def test_a_proxy_s_container_that_kbpg_did_not_start_is_none(world: World) -> None:
    container(world.hosts[PROXIES[0]], "haproxy")
    assert world.apply()[CONTROLLER] is Status.CHANGED


def test_with_the_file_a_cluster_that_exists_is_fine(world: World) -> None:
    world.apply()
    container(world.hosts[PROXIES[0]], "haproxy", **{LABEL_SPEC: "1f"})
    for trace in (born, data, container):
        trace(world.hosts["db-3"])
    assert set(world.apply().values()) == {Status.OK}


def test_a_mere_claim_is_no_cluster(world: World) -> None:
    world.hosts["db-2"].files[RECORD] = FakeFile(b'{"cluster": "kb", "system_identifier": ""}\n')
    assert world.apply()[CONTROLLER] is Status.CHANGED


@pytest.mark.parametrize("record", [b"", b"not json", b'{"cluster": "kb"}'])
def test_a_record_that_tells_nothing_might_be_one(record: bytes, world: World) -> None:
    world.hosts["db-2"].files[RECORD] = FakeFile(record)
    assert world.apply()["db-2"] is Status.FAILED
    assert not world.file.exists()


@pytest.mark.parametrize("away", ["db-2", PROXIES[0]])
def test_a_host_that_might_hold_a_cluster_and_cannot_be_asked(away: str, world: World) -> None:
    del world.hosts[away]
    assert world.apply()[away] is Status.FAILED
    assert not world.file.exists()


def test_nothing_of_a_password_is_shown(world: World) -> None:
    world.write(MISSIONS)
    world.apply()
    shown = "\n".join(
        line for outcome in world.report.outcomes for line in (*outcome.lines, *outcome.commands)
    )
    for field in dataclasses.fields(CREDENTIALS):
        if field.name.endswith("password"):
            assert getattr(CREDENTIALS, field.name).reveal() not in shown


def test_a_role_that_the_inventory_gains_gets_its_password(world: World) -> None:
    for host in world.hosts.values():
        host.answers[DataFact] = lambda _host, _question: Output(0, "")
    world.apply()
    before = world.file.read_text()
    path = world.context.inventory.path
    path.write_text(path.read_text() + "roles: [{name: clerk}, {name: team, login: false}]\n")
    inventory = load(path)
    found = credentials.load(world.file, inventory.login_roles)
    assert found is not None
    assert found.missing == ("POSTGRES_ROLE_CLERK_PASS",)
    world.context = Context(inventory, credentials.complete(found), pki=pki_of(inventory))
    statuses = world.apply()
    assert Status.CHANGED in statuses.values(), world.report.outcomes
    assert not world.report.failed
    after = world.file.read_text()
    assert after.startswith(before)
    assert after.removeprefix(before).count("POSTGRES_ROLE_") == 1
    again = credentials.load(world.file, inventory.login_roles)
    assert again is not None
    world.context = Context(inventory, credentials.complete(again), pki=pki_of(inventory))
    assert Status.CHANGED not in world.apply().values()
    assert world.file.read_text() == after
