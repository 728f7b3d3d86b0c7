"""kbpg as a user with sudo, through a jump host, with every sshd on a port of its own."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.lab.conftest import HOSTS, Lab

from kbpg.lab.images import HOST_IMAGE
from kbpg.lab.layout import NETWORK

pytestmark = [pytest.mark.lab, pytest.mark.faults]

USER = "kbpg"
"""A user of every lab host, with password-less sudo."""
PORT, JUMP_PORT = 2022, 2222
LOG = "/var/log/sshd-2022.log"
START = f"/usr/sbin/sshd -p {PORT} -o PidFile=/run/sshd-2022.pid -o LogLevel=INFO -E {LOG}"
STOP = f"kill $(cat /run/sshd-2022.pid); rm -f {LOG}"
HOST_KEY = "cat /etc/ssh/ssh_host_ed25519_key.pub"
_JUMP = f"""
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
install -d -m 0700 -o {USER} -g {USER} /home/{USER}/.ssh
echo "$1" >/home/{USER}/.ssh/authorized_keys
mkdir -p /run/sshd
exec /usr/sbin/sshd -D -p {JUMP_PORT}
"""


def docker(*argv: str) -> str:
    return subprocess.run(["docker", *argv], capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.fixture
def jump(lab: Lab) -> Iterator[str]:
    """The address of a host that is not in the inventory, and from which the others are reached."""
    name = f"kbpg-jump-{uuid.uuid4().hex[:8]}"
    key = (lab.directory / "id_ed25519.pub").read_text()
    argv = ("run", "--detach", "--rm", "--name", name, "--network", NETWORK, "--entrypoint", "sh", HOST_IMAGE)
    docker(*argv, "-c", _JUMP, "sh", key)
    try:
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        address = docker("inspect", "--format", form, name).strip()
        asked = ("exec", name, "sh", "-c", HOST_KEY)
        lab.until(lambda: subprocess.run(["docker", *asked], capture_output=True).returncode == 0, 10, "sshd")
        lab.everywhere(START)
        keys = {f"[{lab.addresses[host]}]:{PORT}": lab.sh(host, HOST_KEY) for host in HOSTS}
        keys[f"[{address}]:{JUMP_PORT}"] = docker(*asked)
        known = "".join(f"{at} {' '.join(line.split()[:2])}\n" for at, line in keys.items())
        (lab.directory / "known_hosts.jump").write_text(known)
        yield address
    finally:
        docker("rm", "--force", name)
        lab.everywhere(STOP)
        (lab.directory / "known_hosts.jump").unlink(missing_ok=True)


@pytest.fixture
def inventory(lab: Lab, jump: str) -> Iterator[Path]:
    def change(settings: dict[str, Any]) -> None:
        settings["ssh"].update(
            user=USER, port=PORT, jump=f"{USER}@{jump}:{JUMP_PORT}", known_hosts="known_hosts.jump"
        )

    path = lab.edited(lab.directory / "jump.yaml", change)
    yield path
    path.unlink()


@pytest.mark.timeout(900)
def test_everything_works_with_sudo_through_a_jump_host(bare: Lab, inventory: Path, jump: str) -> None:
    lab = bare
    lab.everywhere(": >/var/log/sshd.log")
    first = lab.apply(inventory)
    again = lab.apply(inventory)
    assert "nothing had to be changed" in again.out
    lab.await_whole(60)
    print(f"\nfirst {first.seconds:.1f} s, again {again.seconds:.1f} s")
    for command in ("plan", "diagnose", "validate", "status"):
        ran = lab.kbpg(command, inventory=inventory)
        print(f"{command}: exit {ran.code}, {ran.seconds:.1f} s, {ran.out.rstrip().splitlines()[-1]}")
        assert ran.code == 0, ran.everything
    ran = lab.kbpg(
        "drill", "postmaster-crash", "leader-partition", "switchover", "--json", inventory=inventory
    )
    assert ran.code == 0, ran.everything
    for drill in json.loads(ran.out)["drills"]:
        figures = drill["figures"]
        print(f"{drill['name']}: RTO {figures['pooled']['rto']}, lost {figures['lost']}")
        assert (drill["problems"], figures["lost"]) == ([], 0)
    lab.await_whole(60)
    # Nobody came in by another way
    for host in HOSTS:
        logins = [line for line in lab.sh(host, f"cat {LOG}").splitlines() if line.startswith("Accepted")]
        assert logins, host
        assert all(f"for {USER} from {jump} " in line for line in logins), logins
        assert "Accepted" not in lab.sh(host, "cat /var/log/sshd.log")
