"""WAL archived and data backed up by a program that the inventory puts into the image; docs/backup.md, run."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.lab.conftest import DB, Lab

pytestmark = [pytest.mark.lab, pytest.mark.faults, pytest.mark.timeout(1200)]

DIRECTORY = "/srv/backup"
CONFIG = f"""\
[global]
repo1-path={DIRECTORY}/repo
repo1-retention-full=2
log-level-file=off
lock-path=/tmp

[keybuzz]
pg1-path=/var/lib/postgresql/data/pgdata
pg1-socket-path=/run/postgresql
pg1-user=kb_admin
"""
PGBACKREST = f"pgbackrest --config={DIRECTORY}/pgbackrest.conf --stanza=keybuzz"
IN_PATRONI = "docker exec --user 999:999 patroni"
IMAGE = "patroni-pg16-raft:latest"


def archiving(settings: dict[str, Any]) -> None:
    settings.setdefault("build", {})["packages"] = ["pgbackrest"]
    postgresql = settings.setdefault("postgresql", {})
    postgresql["mounts"] = [DIRECTORY]
    postgresql.setdefault("parameters", {}).update(
        archive_mode="on", archive_command=f"{PGBACKREST} archive-push %p"
    )


def psql(lab: Lab, host: str, query: str) -> str:
    return lab.sh(host, f'{IN_PATRONI} psql --username=kb_admin --dbname=keybuzz -Atc "{query}"').strip()


def test_point_in_time_recovery(cluster: Lab) -> None:
    lab = cluster
    path = lab.directory / "archive.yaml"
    inventory = lab.edited(path, archiving)
    try:
        missing = lab.kbpg("apply-all", inventory=inventory)
        assert missing.code != 0
        assert f"mounts: {DIRECTORY} is not there" in missing.everything
        assert lab.kbpg("plan").code == 0, "nothing was changed"

        lab.everywhere(f"install -d -o 999 -g 999 -m 0700 {DIRECTORY}", DB)
        lab.everywhere(f"cat > {DIRECTORY}/pgbackrest.conf <<'E'\n{CONFIG}E\nchown 999:999 {DIRECTORY}/*", DB)
        lab.apply(inventory, timeout=900)
        assert lab.kbpg("plan", inventory=inventory).code == 0
        recover(lab)
        fails(lab, inventory)
    finally:
        lab.apply()
        lab.everywhere(f"rm -rf {DIRECTORY} /srv/restored", DB)
        path.unlink()
    assert lab.kbpg("diagnose").code == 0


def recover(lab: Lab) -> None:
    """Back up, delete, and bring back what was there a moment before."""
    leader = lab.leader()
    for command in ("stanza-create", "check", "backup --type=full"):
        lab.sh(leader, f"{IN_PATRONI} {PGBACKREST} {command}")
    (stanza,) = json.loads(lab.sh(leader, f"{IN_PATRONI} {PGBACKREST} info --output=json"))
    assert stanza["status"]["message"] == "ok"
    assert len(stanza["backup"]) == 1

    # pgBackRest knows the end of a backup by the second, and restores one that ended in a second before the moment's
    past = f"select now() >= to_timestamp({stanza['backup'][0]['timestamp']['stop']} + 1)"
    lab.until(lambda: psql(lab, leader, past) == "t", 10, "a second after the backup")
    psql(lab, leader, "create table kb_app.pitr as select 7 as seven")
    moment = psql(lab, leader, "select now()")
    psql(lab, leader, "drop table kb_app.pitr")
    segment = psql(lab, leader, "select pg_walfile_name(pg_switch_wal())")
    done = f"select last_archived_wal >= '{segment}' from pg_stat_archiver"  # noqa: S608
    lab.until(lambda: psql(lab, leader, done) == "t", 30, "an archived segment")

    data = f"--volume /srv/restored:/var/lib/postgresql/data --volume {DIRECTORY}:{DIRECTORY}:ro --tmpfs /tmp"
    alone = f"--network none --user 999:999 --tmpfs /run/postgresql:uid=999,gid=999 {data} {IMAGE}"
    lab.sh(leader, "install -d -o 999 -g 999 -m 0700 /srv/restored/pgdata")
    target = f"--type=time --target='{moment}' --target-action=promote"
    lab.sh(leader, f"docker run --rm {alone} {PGBACKREST} restore {target} --archive-mode=off")
    options = "-c listen_addresses= -c shared_buffers=128MB -c ssl=off -c synchronous_standby_names="
    lab.sh(
        leader,
        f"docker run --detach --name restored {alone} postgres -D /var/lib/postgresql/data/pgdata {options}",
    )

    def restored(query: str) -> str:
        ask = "docker exec --user 999:999 restored psql --username=kb_admin --dbname=keybuzz -Atc"
        return lab.sh(leader, f'{ask} "{query}" || true').strip()

    try:
        lab.until(lambda: restored("select pg_is_in_recovery()") == "f", 60, "the end of the recovery")
        assert restored("select seven from kb_app.pitr") == "7"
    finally:
        lab.sh(leader, "docker rm -f restored")
    assert psql(lab, leader, "select to_regclass('kb_app.pitr') is null") == "t"


def fails(lab: Lab, inventory: Any) -> None:
    """An archive that takes nothing is named, and what waits is archived once it takes WAL again."""
    leader = lab.leader()
    lab.sh(leader, f"chmod 0000 {DIRECTORY}/repo")
    psql(lab, leader, "select pg_switch_wal() from pg_logical_emit_message(true, 'x', 'x')")

    def named() -> bool:
        found = json.loads(lab.kbpg("diagnose", "--json", inventory=inventory).out)["findings"]
        return [each["host"] for each in found if each["id"] == "archive-failing"] == [leader]

    lab.until(named, 60, "archive-failing")
    lab.sh(leader, f"chmod 0750 {DIRECTORY}/repo")
    lab.until(lambda: lab.kbpg("diagnose", inventory=inventory).code == 0, 120, "an archive that works again")
