"""The programs that every fake host knows: those that make, own, move and remove files and directories."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any

from kbpg.hosts.fake import FakeDirectory, FakeFile, FakeHost, Program, UnknownToFake
from kbpg.hosts.port import Output


def _install(host: FakeHost, argv: Sequence[str], stdin: bytes) -> Output:
    """`install -d -o UID -g GID -m MODE PATH...`."""
    options, paths = _options(argv, flags="d", values="ogm")
    if "d" not in options:
        raise UnknownToFake(f"install without -d: {shlex.join(argv)}")
    for path in paths:
        if path in host.files:
            return Output(1, "", f"install: {path}: exists and is no directory")
        _make_directories(host, path)
        made = host.directories[path]
        uid, gid = made.owner.split(":")
        made.owner = f"{options.get('o', uid)}:{options.get('g', gid)}"
        made.mode = int(options.get("m", "755"), 8)
    return Output(0, "")


def _mkdir(host: FakeHost, argv: Sequence[str], stdin: bytes) -> Output:
    """`mkdir -p PATH...`."""
    options, paths = _options(argv, flags="p")
    if "p" not in options:
        raise UnknownToFake(f"mkdir without -p: {shlex.join(argv)}")
    for path in paths:
        if path in host.files:
            return Output(1, "", f"mkdir: {path}: File exists")
        _make_directories(host, path)
    return Output(0, "")


def _chown(host: FakeHost, argv: Sequence[str], stdin: bytes) -> Output:
    """`chown UID:GID PATH...`."""
    owner, *paths = argv
    return _change(host, "chown", paths, lambda node: setattr(node, "owner", owner))


def _chmod(host: FakeHost, argv: Sequence[str], stdin: bytes) -> Output:
    """`chmod MODE PATH...`, the mode in octal digits."""
    mode, *paths = argv
    return _change(host, "chmod", paths, lambda node: setattr(node, "mode", int(mode, 8)))


def _rm(host: FakeHost, argv: Sequence[str], stdin: bytes) -> Output:
    """`rm -f PATH...`; directories are refused, as rm does."""
    options, paths = _options(argv, flags="f")
    for path in paths:
        if path in host.directories:
            return Output(1, "", f"rm: cannot remove '{path}': Is a directory")
        if host.files.pop(path, None) is None and "f" not in options:
            return Output(1, "", f"rm: cannot remove '{path}': No such file or directory")
    return Output(0, "")


def _mv(host: FakeHost, argv: Sequence[str], stdin: bytes) -> Output:
    """`mv [-f] [-T] OLD NEW`, of a file, or of a directory with all that is in it."""
    _, (old, new) = _options(argv, flags="fT")
    if old in host.files:
        if new in host.directories:
            new = f"{new}/{PurePosixPath(old).name}"
        host.files[new] = host.files.pop(old)
        return Output(0, "")
    if old not in host.directories:
        return Output(1, "", f"mv: cannot stat '{old}': No such file or directory")
    if new in host.directories:
        raise UnknownToFake(f"mv of a directory onto another: {shlex.join(argv)}")
    inside: tuple[dict[str, Any], ...] = (host.files, host.directories)
    for nodes in inside:
        for path in [path for path in nodes if path == old or path.startswith(f"{old}/")]:
            nodes[new + path.removeprefix(old)] = nodes.pop(path)
    return Output(0, "")


def _options(argv: Sequence[str], *, flags: str, values: str = "") -> tuple[dict[str, str], list[str]]:
    options: dict[str, str] = {}
    words = iter(argv)
    rest: list[str] = []
    for word in words:
        if word == "--":
            rest.extend(words)
        elif not word.startswith("-"):
            rest.append(word)
        elif word[1:] in values:
            options[word[1:]] = next(words)
        elif set(word[1:]) <= set(flags):
            options.update(dict.fromkeys(word[1:], ""))
        else:
            raise UnknownToFake(f"option {word} in {shlex.join(argv)}")
    return options, rest


def _make_directories(host: FakeHost, path: str) -> None:
    for ancestor in (*reversed(PurePosixPath(path).parents), PurePosixPath(path)):
        host.directories.setdefault(str(ancestor), FakeDirectory())


def _change(
    host: FakeHost, program: str, paths: Sequence[str], change: Callable[[FakeFile | FakeDirectory], None]
) -> Output:
    for path in paths:
        node = host.files.get(path) or host.directories.get(path)
        if node is None:
            return Output(1, "", f"{program}: cannot access '{path}': No such file or directory")
        change(node)
    return Output(0, "")


PROGRAMS: dict[str, Program] = {
    "chmod": _chmod,
    "chown": _chown,
    "install": _install,
    "mkdir": _mkdir,
    "mv": _mv,
    "rm": _rm,
}
"""The programs every fake host starts with; a test adds its own to `host.programs`."""
