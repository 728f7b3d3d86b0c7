"""The global options, before the command's name and after it, and what is wrong with a command line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from kbpg.__main__ import run
from kbpg.cli.app import command
from kbpg.cli.limiting import TAKE
from kbpg.errors import Exit
from kbpg.options import Options

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """The options that `plan` was run with."""
    seen: list[Options] = []

    def plan(options: Options, steps: Any) -> int:
        seen.append(options)
        return int(Exit.OK)

    monkeypatch.setattr("kbpg.cli.running.plan", plan)
    return seen


@pytest.mark.parametrize(
    ("given", "attribute", "value"),
    [
        (["-i", "other.yaml"], "inventory", Path("other.yaml")),
        (["--inventory=other.yaml"], "inventory", Path("other.yaml")),
        (["--limit", "a,b", "--limit", "c"], "limit", frozenset("abc")),
        (["--limit", " a , b,"], "limit", frozenset("ab")),
        (["--json"], "json", True),
        (["-v"], "verbose", 1),
        (["-vv"], "verbose", 2),
        (["-y"], "yes", True),
        (["--yes"], "yes", True),
        (["--accept-new-host-keys"], "accept_new_host_keys", True),
        (["--no-color"], "color", False),
    ],
)
def test_an_option_stands_before_and_after(
    seen: list[Options], given: list[str], attribute: str, value: object
) -> None:
    assert run([*given, "plan"]) == 0
    assert run(["plan", *given]) == 0
    assert run(["plan"]) == 0
    before, after, without = (getattr(options, attribute) for options in seen)
    assert before == after == value
    assert without == getattr(Options(), attribute) != value


def test_options_on_both_sides_add_up(seen: list[Options]) -> None:
    assert run(["-i", "a.yaml", "--limit", "a", "-v", "--json", "plan", "-v", "--limit", "b", "-y"]) == 0
    options = seen[0]
    assert options.inventory == Path("a.yaml")
    assert options.limit == {"a", "b"}
    assert (options.verbose, options.json, options.yes) == (2, True, True)


def test_the_last_inventory_wins_and_the_environment_is_the_default(
    seen: list[Options], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KBPG_INVENTORY", "from-environment.yaml")
    assert run(["plan"]) == 0
    assert run(["-i", "a.yaml", "plan"]) == 0
    assert run(["-i", "a.yaml", "plan", "-i", "b.yaml"]) == 0
    assert [str(options.inventory) for options in seen] == ["from-environment.yaml", "a.yaml", "b.yaml"]


def _commands(below: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, below
    for name, inner in getattr(below, "commands", {}).items():
        yield from _commands(inner, (*path, name))


COMMANDS = [path for path, _ in _commands(command())]


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(path) or "kbpg")
def test_help(path: tuple[str, ...], world: Any, capsys: Capture, snapshot: SnapshotAssertion) -> None:
    assert run([*path, "--help"]) == 0
    captured = capsys.readouterr()
    assert captured.out == snapshot
    assert captured.err == ""


WHOLE = [
    (path, below)
    for path, below in _commands(command())
    if not hasattr(below, "commands") and " ".join(path) not in TAKE
]


@pytest.mark.parametrize(("path", "below"), WHOLE, ids=[" ".join(path) for path, _ in WHOLE])
def test_what_takes_no_limit_says_so_and_its_help_is_silent(
    path: tuple[str, ...], below: Any, capsys: Capture
) -> None:
    words = [param.name for param in below.params if param.param_type_name == "argument" and param.required]
    for line in (["--limit", "db-1", *path, *words], [*path, *words, "--limit", "db-1"]):
        to = ["--to", "db-1"] if path == ("failover",) else []
        assert run([*line, *to]) == 2
        first = capsys.readouterr().err.splitlines()[0]
        assert re.fullmatch(f"error: .*{path[-1]}.* --limit", first)
    assert run([*path, "--help"]) == 0
    assert "--limit" not in capsys.readouterr().out


def test_the_commands_that_take_a_limit_are_there_and_say_so(capsys: Capture) -> None:
    assert {" ".join(path) for path in COMMANDS} >= TAKE
    for name in sorted(TAKE):
        assert run([*name.split(), "--help"]) == 0
        assert "--limit HOST[,HOST]" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["pln"],
        ["plan", "--nope"],
        ["plan", "extra"],
        ["plan", "-i"],
        ["step"],
        ["step", "9"],
        ["step", "harpoxy"],
        ["plan", "--limit", "db-9"],
        ["uri", "--direct", "--pooled"],
        ["-i", "missing.yaml", "plan"],
        ["lab", "nope"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line(
    arguments: list[str], world: Any, capsys: Capture, snapshot: SnapshotAssertion
) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err == snapshot
    assert captured.out == ""


def test_nothing_given_is_a_question(capsys: Capture) -> None:
    assert run([]) == 2
    assert capsys.readouterr().err.startswith("Usage: kbpg")


def test_version(capsys: Capture) -> None:
    from kbpg import __version__

    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"kbpg {__version__}\n"


@pytest.mark.parametrize(
    ("given", "port"),
    [
        ([], 6432),
        (["--pooled"], 6432),
        (["--direct"], 5432),
        (["--read-only"], 5433),
        (["--read-only", "--pooled"], 6432),
    ],
)
def test_uri_is_one_line(world: Any, capsys: Capture, given: list[str], port: int) -> None:
    assert run(["uri", *given]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.count("\n") == 1
    assert captured.out.startswith(f"postgresql://kb_app:***@192.0.2.11:{port},192.0.2.12:{port}/keybuzz")
    assert run(["uri", *given, "--show-password"]) == 0
    assert ":wonderful-secret-0123456789-b@" in capsys.readouterr().out


def test_uri_of_a_database_and_a_role(world: Any, capsys: Capture) -> None:
    path = Path("inventory.yaml")
    path.write_text(
        path.read_text() + "databases: [{name: shop}]\nroles: [{name: clerk}, {name: team, login: false}]\n"
    )
    assert run(["uri", "--database", "shop", "--role", "clerk", "--read-only", "--pooled"]) == 0
    assert "clerk:***@192.0.2.11:6432,192.0.2.12:6432/shop_ro" in capsys.readouterr().out
    assert run(["uri", "--role", "kb_admin"]) == 0
    assert capsys.readouterr().out.startswith("postgresql://kb_admin:***@")
    assert run(["uri", "--role", "clerk", "--show-password"]) == 2
    assert "POSTGRES_ROLE_CLERK_PASS missing" in capsys.readouterr().err
    for words, said in (
        (["--database", "shopp"], "no database shopp, did you mean shop?\nhint: databases: keybuzz, shop"),
        (["--role", "team"], "no role team\nhint: roles: kb_app, kb_admin, clerk"),
    ):
        assert run(["uri", *words]) == 2
        assert said in capsys.readouterr().err


def test_uri_never_makes_up_a_password(world: Any, capsys: Capture) -> None:
    Path("credentials/postgres.env").unlink()
    assert run(["uri"]) == 0
    capsys.readouterr()
    assert run(["uri", "--show-password"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("no such file\nhint: run kbpg step 00 first\n")
