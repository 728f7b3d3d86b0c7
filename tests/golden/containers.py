"""Throw-away containers without any network, for asking the real programs what they think of a file."""

from __future__ import annotations

import contextlib
import io
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping

OWNER = 999
"""The user and group of all three images; files are given to it with mode 0600, as on the hosts."""


def docker(
    *arguments: str, stdin: bytes | None = None, deadline: float = 60
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["docker", *arguments], input=stdin, capture_output=True, timeout=deadline, check=False
    )


@contextlib.contextmanager
def container(
    image: str, command: tuple[str, ...] = (), files: Mapping[str, str] | None = None, *options: str
) -> Iterator[str]:
    """Yield the id of a created, not yet started container that holds `files` (by their absolute paths)."""
    if docker("image", "inspect", image).returncode:
        raise AssertionError(f"no image {image}: `script/test` builds it, or `kbpg apply-all` on a lab does")
    made = docker("create", "--network", "none", *options, image, *command)
    assert made.returncode == 0, made.stderr.decode()
    found = made.stdout.decode().strip()
    try:
        copied = docker("cp", "-", f"{found}:/", stdin=_archive(files or {}))
        assert copied.returncode == 0, copied.stderr.decode()
        yield found
    finally:
        docker("rm", "-fv", found)


def run(image: str, command: tuple[str, ...], files: Mapping[str, str]) -> tuple[int, str]:
    """Return exit code and output of `command` in a container of `image` that holds `files`."""
    with container(image, command, files) as name:
        done = docker("start", "-a", name)
        return done.returncode, (done.stdout + done.stderr).decode()


def log(name: str) -> str:
    done = docker("logs", name)
    return (done.stdout + done.stderr).decode()


def wait_for(text: str, name: str, deadline: float = 30) -> str:
    """Return the log of the container once it holds `text`; fails after `deadline` seconds."""
    end = time.monotonic() + deadline
    while text not in (found := log(name)):
        assert time.monotonic() < end, f"no {text!r} after {deadline} s:\n{found}"
        time.sleep(0.05)
    return found


def _archive(files: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, text in files.items():
            data = text.encode()
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode, entry.uid, entry.gid = len(data), 0o600, OWNER, OWNER
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
