"""A login that is not root: sudo without a password, or a clear error. On a server of its own, in a container."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest

from kbpg.engine.lock import Locks
from kbpg.errors import AccessDenied, CommandTimeout, Unreachable
from kbpg.hosts.ssh import SshHost, connect

from .conftest import Settings, free_port, make_key

pytestmark = pytest.mark.docker

IMAGE = "kbpg-lab-host:latest"
"""The lab's image of a host: it has sshd and sudo."""

START = """\
set -eu
mkdir -p /run/sshd /keys
for user in ops plain; do
  useradd --create-home --shell /bin/bash --password '*' "$user"
  printf '%s\\n' "$2" >"/keys/$user"
done
echo 'ops ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/ops
ssh-keygen -q -t ed25519 -N '' -f /keys/host
exec /usr/sbin/sshd -D -e -p "$1" -h /keys/host -o ListenAddress=127.0.0.1 -o StrictModes=no \\
  -o AuthorizedKeysFile=/keys/%u
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """An sshd with a user `ops` who may sudo and a user `plain` who may not."""
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("no docker")
    if subprocess.run([docker, "image", "inspect", IMAGE], capture_output=True, check=False).returncode:
        pytest.skip(f"no image {IMAGE}: kbpg lab up builds it")
    directory, port = tmp_path_factory.mktemp("sudo"), free_port()
    key = make_key(directory / "id")
    public = key.with_suffix(".pub").read_text().strip()
    run = [docker, "run", "--detach", "--rm", "--network", "host", "--entrypoint", "sh", IMAGE]
    start = ["-c", START, "start", str(port), public]
    started = subprocess.run([*run, *start], capture_output=True, text=True, check=True)
    container = started.stdout.strip()
    try:
        settings = Settings(port, key, directory / "known_hosts")
        _wait(settings)
        yield settings
    finally:
        subprocess.run([docker, "rm", "--force", container], capture_output=True, check=True)


def _wait(settings: Settings) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            connect("db-1", "127.0.0.1", settings.but(user="ops"), accept_new=True).close()
        except Unreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


class Ask:
    key = "who"
    script = "id -u; id -un >&2"


@pytest.fixture
def ops(server: Settings) -> Iterator[SshHost]:
    with connect("db-1", "127.0.0.1", server.but(user="ops")) as host:
        yield host


def test_everything_is_done_as_root(ops: SshHost) -> None:
    assert ops.run(["id", "-u"]).stdout == "0\n"
    assert b"".join(ops.stream(["id", "-u"])) == b"0\n"
    answer = ops.read([Ask()])["who"]
    assert (answer.stdout, answer.stderr) == ("0\n", "root\n")
    ops.write("/etc/kbpg-try", b"x\n", owner="0:0", mode=0o600)
    assert ops.run(["stat", "-c", "%u %a", "/etc/kbpg-try"]).stdout == "0 600\n"


def test_input_goes_through_sudo(ops: SshHost) -> None:
    assert ops.run(["wc", "-c"], stdin=(b"x" * 100_000 for _ in range(50))).stdout == "5000000\n"


def test_the_lock_is_root_s_too(ops: SshHost) -> None:
    with Locks.acquire([ops], who="root@here", doing="apply-all"):
        assert ops.run(["stat", "-c", "%u", "/run/kbpg.lock"]).stdout == "0\n"
        assert ops.run(["flock", "--nonblock", "/run/kbpg.lock", "true"], check=False).status == 1
    assert ops.run(["flock", "--nonblock", "/run/kbpg.lock", "true"]).ok


def test_a_deadline_ends_what_sudo_started(ops: SshHost) -> None:
    with pytest.raises(CommandTimeout):
        ops.run(["sleep", "64.5"], timeout=0.5)
    assert ops.run(["pgrep", "-f", "^sleep 64.5$"], check=False).status == 1


def test_a_user_who_may_not_become_root_is_told_what_to_do(server: Settings) -> None:
    with pytest.raises(AccessDenied) as caught:
        connect("db-1", "127.0.0.1", server.but(user="plain"))
    assert str(caught.value) == "db-1: plain may not become root without a password"
    assert "password" in caught.value.detail[0]
    assert (caught.value.hint or "").startswith(
        "with visudo add `plain ALL=(ALL) NOPASSWD: ALL`, or set `ssh.user: root`; "
    )


def test_sudo_may_be_turned_off(server: Settings) -> None:
    with connect("db-1", "127.0.0.1", server.but(user="plain", sudo=False)) as host:
        assert host.run(["id", "-un"]).stdout == "plain\n"
