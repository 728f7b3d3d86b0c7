"""Clusters that kbpg did not make, and credentials files that it did not write: taken over without losing a row."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest
from tests.lab import by_hand
from tests.lab.conftest import DB, HOSTS, Lab, killed_at_end

pytestmark = [pytest.mark.lab, pytest.mark.faults]

FOUR = ("POSTGRES_SUPERUSER", "POSTGRES_SUPERPASS", "POSTGRES_APP_USER", "POSTGRES_APP_PASS")


def values(lab: Lab) -> dict[str, str]:
    text = (lab.directory / "credentials" / "postgres.env").read_text()
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name: value.strip("'") for name, value in pairs}


def finding_ids(lab: Lab) -> dict[str, dict[str, str]]:
    ran = lab.kbpg("diagnose", "--json")
    return {each["id"]: each for each in json.loads(ran.out)["findings"] if each["severity"] != "notice"}


def assert_managed(lab: Lab) -> None:
    assert lab.kbpg("plan").code == 0
    diagnosed = lab.kbpg("diagnose")
    assert diagnosed.code == 0, diagnosed.everything
    label = "docker ps -q | xargs docker inspect --format '{{index .Config.Labels \"kbpg.spec\"}}'"
    assert all("no value" not in text for text in lab.everywhere(label).values())


# --- the four names ----------------------------------------------------------------------------------------


def test_a_file_with_four_names_is_completed_from_the_hosts(cluster: Lab) -> None:
    path = cluster.directory / "credentials" / "postgres.env"
    before, whole = values(cluster), path.read_text()
    kept = [line for line in whole.splitlines() if line.split("=")[0] in FOUR]
    path.write_text("\n".join(kept) + "\n")
    started = cluster.started()
    try:
        drift = finding_ids(cluster)["drift"]
        assert drift["host"] == "controller"
        assert "RAFT_PASS" in str(drift)
        assert cluster.kbpg("status").code == 0
        ran = cluster.apply()
        assert values(cluster) == before
        assert not any(secret in ran.everything for name, secret in before.items() if name.endswith("PASS"))
        assert cluster.started() == started
        assert_managed(cluster)
    finally:
        path.write_text(whole)


# --- docker run --------------------------------------------------------------------------------------------


@pytest.fixture
def hand_made(lab: Lab) -> Iterator[Lab]:
    """A cluster made by hand on bare hosts that have the images; what is left is for `cluster` to deal with."""
    lab.apply()  # the images
    lab.wipe()
    by_hand.build(lab)
    by_hand.sql(lab, "create table written (n int primary key); grant all on written to kb_app", "keybuzz")
    yield lab
    lab.wipe()


def switchover_by_hand(lab: Lab) -> None:
    """Let Patroni's own tool hand over."""
    leader = lab.leader()
    to = next(host for host in DB if host != leader)
    command = f"patronictl -c /etc/patroni.yml switchover --leader {leader} --candidate {to} --force keybuzz"
    lab.sh(leader, f"docker exec patroni {command}")
    lab.until(lambda: lab.rest(to)["role"] in ("primary", "master"), 60, f"{to} leads")
    lab.await_whole(deadline=90, synchronous=False)


def test_a_cluster_started_by_hand_is_adopted(hand_made: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab = hand_made
    started = lab.started()
    client = by_hand.Writer(lab)
    with client.writing():
        switchover_by_hand(lab)
    usual = client.longest_gap
    with capsys.disabled():
        print(f"\nby hand, one switchover: {client.summary()}")

    found = finding_ids(lab)
    assert found["cluster-unmanaged"]["host"] == "cluster"
    assert all(host in found["cluster-unmanaged"]["seen"] for host in DB)
    assert "apply-all --adopt" in found["cluster-unmanaged"]["remedy"]
    ran = lab.kbpg("apply-all")
    assert ran.code == 1
    assert "apply-all --adopt" in ran.err
    assert lab.started() == started
    assert (lab.directory / "credentials" / "postgres.env").read_text() == by_hand.FOUR
    assert lab.kbpg("plan", "--adopt").code == 3

    client = by_hand.Writer(lab)
    with client.writing():
        ran = lab.kbpg("apply-all", "--adopt", timeout=500)
        assert ran.code == 0, ran.everything
    with capsys.disabled():
        print(f"adopted in {ran.seconds:.0f} s: {client.summary()}")
    assert client.lost() == set()
    assert client.together_away() == []
    # no longer than the usual switchover of this cluster, with a margin for two shared cores
    assert client.longest_gap < usual + 3
    found_values = values(lab)
    assert found_values["RAFT_PASS"] == by_hand.RAFT
    assert found_values["POSTGRES_REPLICATION_PASS"] == by_hand.REPLICATION
    assert found_values["POSTGRES_REWIND_PASS"] == by_hand.REWIND
    for secret in (by_hand.SUPER, by_hand.APP, by_hand.RAFT, by_hand.REST, by_hand.REPLICATION):
        assert secret not in ran.everything
    journal = "".join(path.read_text() for path in (lab.directory / ".kbpg" / "journal").glob("*.jsonl"))
    assert by_hand.RAFT not in journal
    assert by_hand.REST not in journal
    kept = lab.everywhere("ls /opt/keybuzz/kbpg/before-adoption", DB)
    assert all("patroni.json" in names for names in kept.values())
    after = lab.started()
    assert set(after) == set(started)
    assert_managed(lab)
    assert lab.started() == after
    assert set(lab.everywhere("true")) == set(HOSTS)


def test_an_adoption_that_was_killed_is_finished_by_the_next(hand_made: Lab) -> None:
    lab = hand_made
    client = by_hand.Writer(lab)
    with client.writing():
        replaced = (
            "docker inspect --format '{{index .Config.Labels \"kbpg.spec\"}}' patroni 2>/dev/null || true"
        )

        def one() -> bool:
            return any(
                text.strip() not in ("", "<no value>") for text in lab.everywhere(replaced, DB).values()
            )

        with killed_at_end(lab.start("apply-all", "--adopt")) as process:
            lab.until(one, 120, "the first node is replaced")
            os.kill(process.pid, signal.SIGKILL)
        lab.await_whole(deadline=90, synchronous=False)
        assert "taken over in part" in finding_ids(lab)["cluster-unmanaged"]["seen"]
        refused = lab.kbpg("apply-all")
        assert refused.code == 1
        assert "apply-all --adopt finishes it" in refused.err
        ran = lab.kbpg("apply-all", "--adopt", timeout=400)
        assert ran.code == 0, ran.everything
    assert client.lost() == set()
    assert client.together_away() == []
    assert_managed(lab)


def test_data_of_another_system_stops_an_adoption(hand_made: Lab) -> None:
    lab = hand_made
    odd = next(host for host in DB if host != lab.leader())
    # the replica's container runs elsewhere, and in the place of its data lies a cluster of its own
    lab.sh(
        odd,
        "docker rm -f patroni && mv /opt/keybuzz/postgres/data/pgdata /opt/keybuzz/postgres/data/kept && docker run"
        " --rm --network none -u 999 -v /opt/keybuzz/postgres/data:/var/lib/postgresql/data patroni-pg16-raft:latest"
        " initdb -D /var/lib/postgresql/data/pgdata >/dev/null",
        timeout=120,
    )
    started = lab.started()
    ran = lab.kbpg("apply-all", "--adopt")
    assert ran.code == 1
    assert "the data here is of" in ran.err
    assert f"{odd} does not stream" in ran.err
    assert lab.started() == started
    assert "PG_VERSION" in lab.sh(odd, "ls /opt/keybuzz/postgres/data/pgdata")
    records = lab.everywhere("ls /opt/keybuzz/kbpg 2>/dev/null; true", DB)
    assert not any("cluster.json" in text for text in records.values())
