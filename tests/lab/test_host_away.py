"""A db host is away for days: what can be changed without it, and what stays refused (docs/operations.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.lab.conftest import DB, HOSTS, Lab, Ran
from tests.lab.faults import HAPROXY_CFG, replica
from tests.lab.test_findings import power

pytestmark = [pytest.mark.lab, pytest.mark.faults]

CERTIFICATES = {"db": "/opt/keybuzz/patroni/tls/server.crt", "haproxy": "/opt/keybuzz/haproxy/tls/server.pem"}
STARTED = "docker inspect --format '{{.Name}} {{.State.StartedAt}}' $(docker ps -q)"


@dataclass(frozen=True)
class Away:
    """A lab whose db host `host` has no power."""

    lab: Lab
    host: str

    @property
    def others(self) -> tuple[str, ...]:
        return tuple(name for name in HOSTS if name != self.host)

    def kbpg(self, *args: str, **settings: dict[str, Any]) -> Ran:
        """Run a command for all other hosts, with these settings in the inventory."""
        return self.lab.kbpg(*args, "--limit", ",".join(self.others), inventory=self.edited(**settings))

    def edited(self, **settings: dict[str, Any]) -> Any:
        def change(found: dict[str, Any]) -> None:
            for section, values in settings.items():
                found[section] = {**(found.get(section) or {}), **values}

        return self.lab.edited(self.lab.directory / "away.yaml", change)

    def certificates(self) -> dict[str, str]:
        paths = {name: CERTIFICATES[name.partition("-")[0]] for name in self.others}
        return {name: self.lab.sh(name, f"sha256sum {path}") for name, path in paths.items()}

    def started(self) -> dict[str, str]:
        return self.lab.everywhere(STARTED, self.others)


@pytest.fixture
def away(converged: Lab) -> Iterator[Away]:
    """A replica without power; afterwards it is back, and all is as the inventory wants it."""
    lab = converged
    lab.await_whole(60)
    host, leader = replica(lab), lab.leader()
    power(host, "kill")
    try:
        # the leader gives it up after wal_sender_timeout, 20 s
        lab.until(lambda: len(lab.rest(leader).get("replication", ())) == 1, 60, "the leader misses it")
        yield Away(lab, host)
    finally:
        power(host, "start")
        lab.await_whole(120)
        lab.apply()


def test_all_others_are_changed_while_a_db_host_is_away(away: Away) -> None:
    lab = away.lab
    without = lab.kbpg("apply-all")
    assert without.code == 1
    assert f"with the others alone: --limit {','.join(away.others)}" in without.err, without.everything
    ran = away.kbpg("apply-all", haproxy={"drain_timeout": 1800})
    assert ran.code == 0, ran.everything
    assert f"note: 1 of 2 replicas streaming; {away.host} is left out by --limit" in ran.out, ran.everything
    for proxy in ("haproxy-01", "haproxy-02"):
        assert "hard-stop-after 1800s" in lab.sh(proxy, f"cat {HAPROXY_CFG}")
        assert lab.one(proxy, 6432, "select 1") == 1
    assert away.kbpg("plan", haproxy={"drain_timeout": 1800}).code == 0
    again = away.kbpg("apply-all")
    assert again.code == 0, again.everything


def test_certificates_are_renewed_while_a_db_host_is_away(away: Away) -> None:
    before, started = away.certificates(), away.started()
    ran = away.kbpg("credentials", "renew-tls")
    assert ran.code == 0, ran.everything
    after = away.certificates()
    assert all(before[name] != after[name] for name in before)
    assert away.started() == started
    assert away.lab.one("haproxy-01", 6432, "select 1") == 1


def test_a_node_is_not_restarted_while_another_one_is_away(away: Away) -> None:
    """With two of three gone nothing could be written: the gate stays as it is."""
    started = away.started()
    ran = away.kbpg("apply-all", postgresql={"parameters": {"max_files_per_process": 1500}})
    assert ran.code == 1, ran.everything
    assert f"not restarted: {away.host} does not stream" in ran.everything, ran.everything
    (other,) = (name for name in away.others if name in DB and not leads(away.lab, name))
    restart = away.lab.kbpg("restart", "--host", other)
    assert restart.code == 1, restart.everything
    assert away.started() == started
    in_force = {"parameters": {"max_files_per_process": 1000}}
    back = away.kbpg("apply-all", postgresql=in_force)
    assert back.code == 0, back.everything
    assert away.kbpg("plan", postgresql=in_force).code == 0


@pytest.mark.parametrize("command", [("config", "set", "work_mem=16MB"), ("credentials", "rotate", "app")])
def test_what_needs_every_host_says_so(away: Away, command: tuple[str, ...]) -> None:
    ran = away.lab.kbpg(*command)
    assert ran.code == 1, ran.everything
    words = {"config": "while one is away for long", "credentials": "every host has to be there"}
    assert words[command[0]] in ran.err, ran.everything


def leads(lab: Lab, host: str) -> bool:
    return lab.rest(host)["role"] in ("primary", "master")
