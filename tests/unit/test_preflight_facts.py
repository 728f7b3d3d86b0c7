"""The preflight's questions, asked of a real shell; and their parsers, fed with what hosts printed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import pytest

from kbpg.facts import NotKnown, ShellFact
from kbpg.hosts.local import LocalHost
from kbpg.hosts.port import Output, Question
from kbpg.resources.datadir import DataDirectory, DataDirectoryFact
from kbpg.resources.foreign import DataFact, DataState
from kbpg.resources.preflight.clock import TRIES, ClockFact, Offset, clock_fact
from kbpg.resources.preflight.disk import DiskFact
from kbpg.resources.preflight.ports import Listener, PortsFact
from kbpg.resources.preflight.system import SystemFact
from kbpg.resources.sysctl import SysctlFact

T = TypeVar("T")
SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]
OURS = "ab" * 32
HOST = "cd" * 32
SYSTEM = "id=debian\nmachine=x86_64\nhard={}\nnr_open=1048576\ncapabilities={}\n"
ALL_CAPABILITIES = "000001ffffffffff"
NO_SYS_RESOURCE = "00000004fcfeffff"


def ask(fact: ShellFact[T], shell: str = "sh", path: str | None = None) -> T:
    """Ask this machine, by the fragment that a host would get."""
    env = {**os.environ, **({"PATH": path} if path else {})}
    done = subprocess.run(
        [str(shutil.which(shell)), "-c", fact.script], capture_output=True, text=True, env=env, timeout=30
    )
    return fact.parse(Output(done.returncode, done.stdout, done.stderr))


# --- data --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("empty", [True, False])
def test_no_data_where_nothing_is_or_the_directory_is_empty(tmp_path: Path, shell: str, empty: bool) -> None:
    if empty:
        (tmp_path / "pgdata").mkdir()
    assert ask(DataFact(str(tmp_path)), shell) == DataState(f"{tmp_path}/pgdata", present=False)


@pytest.mark.parametrize("shell", SHELLS)
def test_data_is_read_without_postgresql(tmp_path: Path, shell: str) -> None:
    data = tmp_path / "pgdata"
    (data / "global").mkdir(parents=True)
    (data / "PG_VERSION").write_text("16\n")
    control = data / "global" / "pg_control"
    control.write_bytes((7711353149055164447).to_bytes(8, "little") + b"\x14\x05\0\0")
    os.utime(control, (1_795_439_318, 1_795_439_318))
    expected = DataState(str(data), True, "16", "7711353149055164447", modified=1_795_439_318)
    assert ask(DataFact(str(tmp_path)), shell) == expected


@pytest.mark.parametrize("content", [b"", b"1234567", b"\0" * 512])
def test_a_control_file_without_an_identifier_is_unreadable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pgdata" / "global").mkdir(parents=True)
    (tmp_path / "pgdata" / "global" / "pg_control").write_bytes(content)
    found = ask(DataFact(str(tmp_path)))
    if content == b"1234567":  # od pads with zeros: a number, and no cluster's
        assert found.system_identifier == str(int.from_bytes(content, "little"))
    else:
        assert (found.present, found.readable, found.system_identifier) == (True, False, "")


def test_a_clone_in_progress_has_no_control_file_yet(tmp_path: Path) -> None:
    (tmp_path / "pgdata").mkdir()
    (tmp_path / "pgdata" / "PG_VERSION").write_text("16\n")
    found = ask(DataFact(str(tmp_path)))
    assert (found.version, found.system_identifier, found.readable) == ("16", "", True)


def test_data_right_in_the_mount_is_found_before_pgdata(tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("16\n")
    (tmp_path / "pgdata").mkdir()
    (tmp_path / "pgdata" / "PG_VERSION").write_text("16\n")
    assert ask(DataFact(str(tmp_path))).path == str(tmp_path)


def test_owner_mode_and_strangers_of_the_data_directory(tmp_path: Path) -> None:
    me, group = os.getuid(), os.getgid()
    directory = tmp_path / "pgdata"
    (directory / "base").mkdir(parents=True)
    (directory / "base" / "1").touch()
    directory.chmod(0o750)
    fact = DataDirectoryFact(str(directory), me)
    assert ask(fact) == DataDirectory(f"{me}:{group}", 0o750, "")
    stranger = ask(DataDirectoryFact(str(directory), me + 1))
    assert stranger is not None
    assert stranger.stranger.startswith(str(directory))
    assert ask(DataDirectoryFact(str(tmp_path / "none"), me)) is None


# --- disk --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_the_nearest_parent_there_is_tells_the_room(tmp_path: Path, shell: str) -> None:
    found = ask(DiskFact(f"{tmp_path}/a/b/c"), shell)
    real = os.statvfs(tmp_path)
    assert found.at == str(tmp_path)
    assert found.free == pytest.approx(real.f_bavail * real.f_frsize, rel=0.05)
    assert found.inodes is None or found.inodes == pytest.approx(real.f_ffree, rel=0.05)
    assert (found.read_only, found.broken) == (False, "")


def test_a_link_to_nowhere_and_a_file_on_the_way_are_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    assert ask(DiskFact(f"{tmp_path}/link/data")).broken == f"{tmp_path}/link"
    assert ask(DiskFact(f"{tmp_path}/file/data")).broken == f"{tmp_path}/file"


def test_memory_file_systems_are_told() -> None:
    assert ask(DiskFact("/dev/shm/kbpg-never-there")).kind == "tmpfs"


def test_the_mount_options_tell_read_only() -> None:
    lines = "/srv\n100 4096 5 10 ext2/ext3\nro,relatime\n"
    assert DiskFact("/srv").parse(Output(0, lines)).read_only
    assert not DiskFact("/srv").parse(Output(0, lines.replace("ro,", "rw,"))).read_only


# --- ports -------------------------------------------------------------------------------------------


@pytest.fixture
def listening() -> Iterable[int]:
    """A port that this process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.skipif(not shutil.which("ss"), reason="ss is not installed")
@pytest.mark.parametrize("shell", SHELLS)
def test_ss_names_the_process_that_listens(listening: int, shell: str) -> None:
    found = ask(PortsFact((listening, 1)), shell)
    assert [(each.address, each.port, each.pid) for each in found.listeners] == [
        ("127.0.0.1", listening, os.getpid())
    ]
    assert "127.0.0.1" in found.addresses


@pytest.mark.parametrize("shell", SHELLS)
def test_without_ss_the_kernel_tells_the_port_alone(listening: int, shell: str, tmp_path: Path) -> None:
    found = ask(PortsFact((listening,)), shell, path=str(tmp_path))
    assert found.listeners == (Listener("127.0.0.1", listening),)


@pytest.mark.parametrize(
    "group",
    [
        f"5:devices:/docker/{HOST}/docker/{OURS}",
        f"0::/docker/{HOST}/docker/{OURS}",
        f"0::/system.slice/docker-{OURS}.scope",
        f"0::/../{OURS}",
    ],
)
def test_the_container_of_a_listener_is_in_its_control_group(group: str) -> None:
    said = (
        'LISTEN 0 4096 10.0.0.120:5432 0.0.0.0:* users:(("postgres",pid=2526,fd=6))\n'
        f"cgroup 2526 {group}\ncgroup 0 0::/docker/{HOST}\naddress 127.0.0.1\naddress 10.0.0.120\n"
    )
    found = PortsFact((5432,)).parse(Output(0, said))
    assert found.listeners == (Listener("10.0.0.120", 5432, "postgres", 2526, (OURS,)),)
    assert found.addresses == {"127.0.0.1", "10.0.0.120"}


def test_every_way_that_ss_writes_a_listener() -> None:
    said = """\
LISTEN 0      128          *:5432        *:*    users:(("x y",pid=7,fd=3),("x y",pid=8,fd=3))
LISTEN 0      128       [::]:5432     [::]:*    users:(("six",pid=9,fd=7))
LISTEN 0      128 127.0.0.53%lo:5432 0.0.0.0:*  users:(("resolver",pid=10,fd=7))
LISTEN 0      4096 127.0.0.11:5432 0.0.0.0:*
"""
    found = PortsFact((5432,)).parse(Output(0, said)).listeners
    assert [(each.address, each.process, each.pid) for each in found] == [
        ("*", "x y", 7),
        ("[::]", "six", 9),
        ("127.0.0.53", "resolver", 10),
        ("127.0.0.11", "", 0),
    ]


def test_addresses_from_proc() -> None:
    said = "\n".join(
        f"proc {at}:1538"
        for at in (
            "00000000",
            "7800000A",
            "00000000000000000000000000000000",
            "0000000000000000FFFF00000100007F",
            "B80D0120000000000000000001000000",
        )
    )
    found = PortsFact((5432,)).parse(Output(0, said)).listeners
    assert [each.address for each in found] == ["0.0.0.0", "10.0.0.120", "::", "127.0.0.1", "IPv6"]


def test_an_ss_that_fails_is_not_an_empty_answer() -> None:
    with pytest.raises(NotKnown, match="not permitted"):
        PortsFact((5432,)).parse(Output(1, "", "netlink: Operation not permitted"))


# --- system, kernel settings -------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_this_machine_tells_what_it_is(shell: str) -> None:
    found = ask(SystemFact(), shell)
    assert found.machine == os.uname().machine
    assert found.name
    assert found.open_files > 255
    assert found.apt == bool(shutil.which("apt-get"))


@pytest.mark.parametrize(
    ("hard", "capabilities", "limit"),
    [
        ("20000", NO_SYS_RESOURCE, 20_000),
        ("20000", ALL_CAPABILITIES, 1_048_576),
        ("unlimited", NO_SYS_RESOURCE, 1_048_576),
        ("9999999", NO_SYS_RESOURCE, 1_048_576),
    ],
)
def test_open_files_depend_on_the_right_to_raise_the_limit(hard: str, capabilities: str, limit: int) -> None:
    assert SystemFact().parse(Output(0, SYSTEM.format(hard, capabilities))).open_files == limit


@pytest.mark.parametrize(
    ("text", "debian"),
    [
        ("id=debian\nlike=\napt=yes", True),
        ("id=ubuntu\nlike=debian\napt=yes", True),
        ("id=linuxmint\nlike=ubuntu debian\napt=yes", True),
        ("id=debian\nlike=", False),
        ("id=rocky\nlike=rhel centos fedora", False),
        ("id=\nlike=", False),
    ],
)
def test_where_packages_can_be_installed(text: str, debian: bool) -> None:
    said = f"{text}\nmachine=x86_64\nhard=1\nnr_open=1\ncapabilities=0\n"
    assert SystemFact().parse(Output(0, said)).debian is debian


@pytest.mark.parametrize("shell", SHELLS)
def test_kernel_settings_are_read_whole(shell: str) -> None:
    name = "net.ipv4.tcp_keepalive_time"
    real = int(Path("/proc/sys/net/ipv4/tcp_keepalive_time").read_text())
    assert ask(SysctlFact((name, "vm.never_heard_of")), shell) == {name: real}
    assert ask(SysctlFact((name,)), shell) == {name: real}


# --- clock -------------------------------------------------------------------------------------------


class Shell(LocalHost):
    """A host whose `date` is the first of `path`; every execution takes `delays` seconds, one after another."""

    def __init__(self, path: str, delays: list[float]) -> None:
        super().__init__()
        self.path, self.delays, self.asked = path, delays, 0

    def read(self, questions: Iterable[Question], *, timeout: float = 60) -> Mapping[str, Output]:
        script = f"sleep {self.delays[self.asked]}; " + "".join(question.script for question in questions)
        self.asked += 1
        env = {"PATH": f"{self.path}:{os.environ['PATH']}"}
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=env, timeout=timeout)
        return {"date": Output(done.returncode, done.stdout, done.stderr)}


def fake_date(directory: Path, text: str) -> str:
    program = directory / "date"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return str(directory)


def test_the_clock_of_this_machine_is_its_own() -> None:
    found = ClockFact().ask(Shell("/usr/bin", [0, 0, 0]))
    assert abs(found.seconds) <= found.uncertainty + 0.001


def test_the_hosts_own_date_is_asked_by_its_name(tmp_path: Path) -> None:
    path = fake_date(tmp_path, f'echo "{time.time() + 3600:.9f}"')
    found = ClockFact().ask(Shell(path, [0, 0, 0]))
    assert found.seconds == pytest.approx(3600, abs=5)


def test_a_vague_reading_is_repeated_and_the_best_one_counts() -> None:
    host = Shell("/usr/bin", [0.4, 0, 0])
    found = ClockFact().ask(host)
    assert host.asked >= 2
    assert found.uncertainty < 0.2


def test_three_vague_readings_are_enough() -> None:
    host = Shell("/usr/bin", [0.3, 0.22, 0.25])
    found = ClockFact().ask(host)
    assert host.asked == TRIES
    assert found.uncertainty >= 0.11


@pytest.mark.parametrize(("ahead", "asked"), [(0, 1), (3600, 2)])
def test_a_vague_reading_of_a_clock_that_is_certainly_near_is_enough(
    tmp_path: Path, ahead: float, asked: int
) -> None:
    host = Shell("/usr/bin", [0.24, 0, 0])
    if ahead:
        host.path = fake_date(tmp_path, f'echo "{time.time() + ahead:.9f}"')
    assert abs(clock_fact(1.0).ask(host).seconds - ahead) < 5
    assert host.asked == asked


@pytest.mark.parametrize(
    ("reading", "enough"),
    [
        (Offset(0.0, 0.19), True),
        (Offset(-0.05, 0.2), True),
        (Offset(0.06, 0.2), False),  # perhaps too far
        (Offset(0.0, 0.21), False),  # near, but a third clock could not be told apart
    ],
)
def test_what_is_known_of_a_near_clock(reading: Offset, enough: bool) -> None:
    assert reading.certainly_within(0.25) is enough


def test_a_date_that_tells_no_time_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotKnown, match="does not tell the time: what time is it"):
        ClockFact().ask(Shell(fake_date(tmp_path, "echo what time is it"), [0]))
