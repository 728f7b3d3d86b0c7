"""Passwords: any printable one works, and none is ever seen."""

from __future__ import annotations

import os
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from tests.lab.conftest import HOSTS, Lab, killed_at_end

pytestmark = pytest.mark.lab

ODD = "a'b\"c$d\\e%f@g:h/i ü"


def test_odd_passwords_work_everywhere(bare: Lab) -> None:
    path = bare.directory / "credentials" / "postgres.env"
    path.parent.mkdir(mode=0o700)
    quoted = ODD.replace("'", "'\\''")
    path.write_text(
        f"POSTGRES_SUPERUSER=kb_admin\nPOSTGRES_SUPERPASS='{quoted}'\n"
        f"POSTGRES_APP_USER=kb_app\nPOSTGRES_APP_PASS='{quoted}'\n"
    )
    path.chmod(0o600)
    bare.apply()
    assert bare.credentials["POSTGRES_APP_PASS"] == ODD
    for port in (5432, 6432):
        assert bare.one("haproxy-01", port, "select current_user") == "kb_app"
        assert bare.one("haproxy-02", port, "select current_user", admin=True) == "kb_admin"
    for kind in ("--pooled", "--direct"):
        uri = bare.kbpg("uri", kind, "--show-password").out.strip()
        done = subprocess.run(["psql", uri, "-Atc", "select 1"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert bare.kbpg("plan").code == 0


def test_no_password_is_seen_while_a_cluster_is_built(bare: Lab) -> None:
    """Look at every process and container, here and on the hosts, all the time that apply-all runs."""
    seen: list[str] = []
    over = threading.Event()
    everything = (
        "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ';"
        " for p in /proc/[0-9]*/environ; do cat $p 2>/dev/null; done | tr '\\0' ' ';"
        " docker ps -aq | xargs -r docker inspect 2>/dev/null"
    )

    def look(host: str) -> None:
        while not over.is_set():
            seen.append(bare.sh(host, everything, check=False))

    def look_here() -> None:
        while not over.is_set():
            for process in Path("/proc").iterdir():
                # a process may end between being listed and being read
                if process.name.isdigit():
                    with suppress(OSError):
                        seen.append((process / "cmdline").read_bytes().decode(errors="replace"))

    watchers = [threading.Thread(target=look, args=(host,)) for host in HOSTS]
    watchers.append(threading.Thread(target=look_here))
    with killed_at_end(bare.start("apply-all", "-v")) as process:
        for watcher in watchers:
            watcher.start()
        out, err = process.communicate(timeout=300)
        over.set()
    for watcher in watchers:
        watcher.join(60)
    assert process.returncode == 0, err
    secrets = all_passwords(bare)
    journal = "".join(p.read_text() for p in (bare.directory / ".kbpg" / "journal").rglob("*") if p.is_file())
    logs = "".join(bare.everywhere("for c in $(docker ps -q); do docker logs $c 2>&1; done").values())
    haystack = "".join(seen)
    assert len(seen) > 50
    assert '"docker", "run"' in journal
    for name, secret in secrets.items():
        for where, text in (
            ("a process or a container", haystack),
            ("the output", out + err),
            ("the journal", journal),
            ("a container's log", logs),
        ):
            assert secret not in text, f"{name} seen in {where}"


def all_passwords(lab: Lab) -> dict[str, str]:
    lines = (lab.directory / "credentials" / "postgres.env").read_text().splitlines()
    pairs = [line.split("=", 1) for line in lines if "_PASS=" in line or "_SUPERPASS=" in line]
    found = {name: value.strip("'\"") for name, value in pairs}
    assert len(found) == 7
    assert all(len(value) >= 32 for value in found.values())
    return found


def test_files_with_secrets_are_their_owner_s_alone(cluster: Lab) -> None:
    for host in HOSTS:
        script = "find /opt/keybuzz -maxdepth 2 \\( -name 'secrets.yml' -o -name userlist.txt \\) -printf '%m %U\\n'"
        assert cluster.sh(host, script).split() == ["600", "999"]
    path = cluster.directory / "credentials" / "postgres.env"
    assert (path.stat().st_mode & 0o777, path.stat().st_uid) == (0o600, os.getuid())
