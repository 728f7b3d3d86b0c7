"""What a destroy removes, in which order, and when it does not: real shells on real directories, no hosts."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kbpg.cli import destroying as command
from kbpg.console import Console
from kbpg.engine.site import Site
from kbpg.errors import CommandFailed, KbpgError
from kbpg.hosts.fake import FakeHost, Program
from kbpg.hosts.port import Output
from kbpg.operations import destroying
from kbpg.operations.belongings import Belongings
from kbpg.operations.destroying import Before, Wanted, destroy, why_not_destroy
from kbpg.operations.place import site_of
from kbpg.options import Options
from kbpg.resources.foreign import DataState, Ownership
from kbpg.session import Session

from .small_cluster import DATABASES, PROXIES, context
from .test_belongings import container

LABELED = {"kbpg-haproxy:latest": "1", "somebody-s:latest": ""}


@dataclass
class World:
    """Five hosts whose files are real, each below a directory of its own; Docker's commands are only noted."""

    root: Path
    did: list[tuple[str, str]] = field(default_factory=list)
    dies_at: tuple[str, str] | None = None
    fails: str = ""
    firewalled: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.context = context("prepare: {sysctls: report}\n")
        self.hosts = {name: self._host(name) for name in (*DATABASES, *PROXIES)}
        for name in DATABASES:
            base = self.base(name)
            for path in ("postgres/data/pgdata/global", "postgres/data/pgdata.broken-1", "postgres/raft"):
                (base / path).mkdir(parents=True)
                (base / path / "file").write_text("1")
            self._kbpg(base, "patroni")
            (base / "kbpg/cluster.json").write_text("{}")
        for name in PROXIES:
            self._kbpg(self.base(name), "haproxy", "pgbouncer")

    def base(self, name: str) -> Path:
        return self.root / name / "opt/keybuzz"

    def _kbpg(self, base: Path, *names: str) -> None:
        for name in (*names, "kbpg/loaded"):
            (base / name).mkdir(parents=True)
            (base / name / "file").write_text("1")

    def _host(self, name: str) -> FakeHost:
        real = {program: self._really(program) for program in ("sh", "rmdir")}
        return FakeHost(name, programs={"docker": self._docker, **real})

    def _really(self, program: str) -> Program:
        def run(host: FakeHost, argv: Sequence[str], stdin: bytes) -> Output:
            if host.name == self.fails:
                return Output(1, "", "no space left on device")
            if "kbpg-firewall" in argv:  # the kernel and systemd of this machine are not to be asked
                return Output(0, "table\n" if host.name in self.firewalled else "")
            below = [word.replace("/opt/", f"{self.root}/{host.name}/opt/") for word in argv]
            done = subprocess.run([program, *below], capture_output=True, text=True, timeout=20, check=False)
            return Output(done.returncode, done.stdout, done.stderr)

        return run

    def _docker(self, host: FakeHost, argv: Sequence[str], stdin: bytes) -> Output:
        did = (host.name, f"{argv[0]} {argv[-1]}")
        self.did.append(did)
        if did == self.dies_at:
            raise KeyboardInterrupt
        return Output(0, "abc\n" if argv[0] == "images" else "")

    def site(self) -> Site:
        return site_of(self.context, self.hosts, FakeHost("controller"), lambda place, text: None)

    def files(self, name: str) -> set[str]:
        base = self.base(name)
        return {str(path.relative_to(base)) for path in base.rglob("*") if path.is_file()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def before(**change: Any) -> Before:
    data = DataState("/opt/keybuzz/postgres/data/pgdata", True, "16", "7")
    nodes = {
        name: Belongings(name, {"patroni": container("patroni")}, {}, data=data, owner=Ownership("kb", "7"))
        for name in DATABASES
    }
    proxies = {
        name: Belongings(name, {n: container(n) for n in ("haproxy", "pgbouncer")}, LABELED)
        for name in PROXIES
    }
    return replace(Before({**nodes, **proxies}, {}, ("db-2",), ()), **change)


KEPT = {
    *("postgres/data/pgdata/global/file", "postgres/data/pgdata.broken-1/file", "postgres/raft/file"),
    "kbpg/cluster.json",
}


def test_the_data_and_whose_it_is_stay(world: World) -> None:
    removed = destroy(world.site(), before(), Wanted())
    assert all(world.files(name) == KEPT for name in DATABASES)
    assert not any(world.base(name).exists() for name in PROXIES)
    assert removed.items["db-1"] == ["container patroni", "configuration"]


def test_with_data_nothing_is_left(world: World) -> None:
    removed = destroy(world.site(), before(), Wanted(with_data=True))
    assert not any(world.base(name).exists() for name in (*DATABASES, *PROXIES))
    assert removed.items["db-3"] == ["container patroni", "data", "configuration"]


def test_rules_of_the_firewall_go_whatever_the_inventory_says(world: World) -> None:
    world.firewalled = ("db-1",)
    removed = destroy(world.site(), before(), Wanted())
    assert removed.items["db-1"] == ["container patroni", "configuration", "firewall rules"]
    assert "firewall rules" not in removed.items["db-2"]


def test_what_else_is_in_the_base_directory_is_not_kbpg_s(world: World) -> None:
    for name in ("db-1", "px-1"):
        (world.base(name) / "notes").write_text("mine")
    destroy(world.site(), before(), Wanted(with_data=True))
    assert world.files("db-1") == world.files("px-1") == {"notes"}


def test_a_link_out_of_the_data_directory_is_removed_and_not_followed(world: World, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("1")
    (world.base("db-1") / "postgres/data/pgdata/link").symlink_to(elsewhere)
    (world.base("px-1") / "kbpg/loaded/file").unlink()
    (world.base("px-1") / "kbpg/loaded").rmdir()
    (world.base("px-1") / "kbpg").rmdir()
    (world.base("px-1") / "kbpg").symlink_to(elsewhere)
    destroy(world.site(), before(), Wanted(with_data=True))
    assert (elsewhere / "precious").exists()


def test_proxies_first_then_replicas_then_the_leader(world: World) -> None:
    destroy(world.site(), before(), Wanted())
    stopped = [host for host, did in world.did if did.startswith("stop")]
    assert set(stopped[:4]) == set(PROXIES)
    assert set(stopped[4:6]) == {"db-1", "db-3"}
    assert stopped[6] == "db-2"


def test_images_of_kbpg_go_and_others_stay(world: World) -> None:
    destroy(world.site(), before(), Wanted())
    removed = {did for host, did in world.did if host == "px-1" and did.startswith("rmi")}
    assert removed == {"rmi kbpg-haproxy:latest", "rmi abc"}
    world.did.clear()
    destroy(world.site(), before(), Wanted(keep_images=True))
    assert not any(did.startswith("rmi") for _, did in world.did)


def test_a_run_that_was_killed_is_finished_by_the_next(world: World) -> None:
    world.dies_at = ("db-3", "stop patroni")
    with pytest.raises(KeyboardInterrupt):
        destroy(world.site(), before(), Wanted(with_data=True))
    assert world.files("db-2") >= KEPT
    world.dies_at = None
    left = {name: replace(b, containers={}) for name, b in before().stock.items() if name in PROXIES}
    destroy(world.site(), before(stock={**before().stock, **left}), Wanted(with_data=True))
    destroy(world.site(), before(stock={**before().stock, **left}), Wanted(with_data=True))
    assert not any(world.base(name).exists() for name in (*DATABASES, *PROXIES))


def test_a_host_that_fails_does_not_keep_the_others_and_is_named(world: World) -> None:
    world.fails = "db-1"
    with pytest.raises(CommandFailed, match="db-1: "):
        destroy(world.site(), before(), Wanted(with_data=True))
    assert not world.base("db-2").exists()
    assert world.files("db-1") >= KEPT


def test_several_that_fail_are_one_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(site: Site, belongings: Belongings, removed: object) -> None:
        raise CommandFailed(belongings.host, "docker rm", 1, "busy")

    monkeypatch.setattr(destroying, "_containers", fail)
    with pytest.raises(KbpgError, match="2 hosts failed") as caught:
        destroy(world.site(), before(), Wanted())
    assert caught.value.hint == "run the same command again"


def ordered(world: World, monkeypatch: pytest.MonkeyPatch, *seen: Before) -> None:
    """Give the command; each look finds the next of `seen`."""
    looks = iter(seen)
    monkeypatch.setattr(destroying, "look", lambda site: next(looks))
    monkeypatch.setattr(command, "workplace", lambda session, console: world.site())
    session = cast(Session, SimpleNamespace(context=world.context))
    with Console(mask=str) as console:
        command._destroy(session, console, Options(yes=True), Wanted(), None)


def test_who_leads_when_the_answer_comes_is_stopped_last(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered(world, monkeypatch, before(), before(leaders=("db-3",)))
    stopped = [host for host, did in world.did if did.startswith("stop")]
    assert stopped[-1] == "db-3"


def test_clients_that_came_before_the_answer_are_not_cut_off(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KbpgError, match="the cluster serves clients"):
        ordered(world, monkeypatch, before(), before(clients={"through PgBouncer": 3}))
    assert world.did == []


def refused(world: World, found: Before, **wanted: bool) -> str:
    refusal = why_not_destroy(world.site(), found, Wanted(**wanted))
    return refusal.message if refusal else ""


def test_clients_hosts_that_are_away_and_a_pause_are_refused_unless_forced(world: World) -> None:
    clients = before(clients={"through PgBouncer": 3})
    assert refused(world, clients) == "not destroyed: the cluster serves clients"
    away = before(away=("db-3",))
    assert refused(world, away, with_data=True) == "not destroyed: db-3 cannot be reached"
    paused = before(paused=True)
    assert refused(world, paused).startswith("not destroyed: Patroni is paused")
    assert refused(world, paused, with_data=True) == ""
    assert [refused(world, each, force=True) for each in (clients, away, paused)] == ["", "", ""]


def test_what_is_not_ours_cannot_be_forced(world: World) -> None:
    stock = before().stock
    stranger = replace(stock["db-1"], owner=Ownership("other", "7"))
    found = before(stock={**stock, "db-1": stranger})
    assert "not everything here is this cluster's own" in refused(world, found, force=True, with_data=True)
    with pytest.raises(KbpgError):
        destroy(world.site(), found, Wanted(with_data=True, force=True))
    assert not world.did
