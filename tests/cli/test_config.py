"""`kbpg config set` with mistakes: exit code 2, one clear message, no host contacted, the inventory as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbpg.__main__ import run
from kbpg.cli import opening
from kbpg.errors import UsageError
from kbpg.operations import config_set
from kbpg.secret import Secret
from kbpg.session import Session

from .conftest import World


@pytest.fixture
def untouched(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The inventory's path; opening a session is an error."""

    def opened(*args: Any, **how: Any) -> None:
        raise AssertionError("a host would have been contacted")

    monkeypatch.setattr("kbpg.cli.opening.open_session", opened)
    return Path("inventory.yaml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: nothing to set\nhint: kbpg config set KEY=VALUE …, or --unset KEY\n"),
        (["work_mem"], "error: wanted KEY=VALUE, got work_mem\n"),
        (["port=5433"], "error: port: cannot be set here: set ports.postgresql\n"),
        (
            ["max_connections=5"],
            "error: postgresql.max_connections: wanted 25 or more, got 5 (connections PostgreSQL accepts, 25 or "
            "more)\nhint: docs/inventory.md has the bounds of every key\n",
        ),
        (
            ["ttl=20", "loop_wait=11"],
            "error: timers.ttl: Patroni wants loop_wait + 2 * retry_timeout <= ttl, got 11 + 2 * 5 = 21 > 20\n"
            "hint: docs/inventory.md has the bounds of every key\n",
        ),
        (
            ["fsync=off", "jit"],
            "error: 2 settings cannot be set\n  wanted KEY=VALUE, got jit\n  fsync: cannot be set here: it stays on: "
            "without it a power cut destroys the data\n",
        ),
        (
            ["work_mem=1MB", "--limit", "db-1"],
            "error: the configuration is that of all nodes: config set takes no --limit\n"
            "hint: while one is away for long: change the inventory, then kbpg apply-all --limit with the others\n",
        ),
    ],
)
def test_a_mistake_touches_nothing(
    arguments: list[str], message: str, untouched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = untouched.read_bytes()
    assert run(["config", "set", *arguments]) == 2
    said = capsys.readouterr()
    assert sorted(said.err.splitlines()) == sorted(message.splitlines())
    assert said.out == ""
    assert untouched.read_bytes() == before


def test_an_inventory_that_was_wrong_before_is_named_with_its_line(
    untouched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    untouched.write_text(untouched.read_text() + "failover: quick\n")
    assert run(["config", "set", "work_mem=1MB"]) == 2
    assert "inventory.yaml:9: failover: wanted fast, balanced or tolerant" in capsys.readouterr().err


def test_what_the_command_line_hides_is_masked_before_the_first_question(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[Secret] = []
    opened = opening.open_session

    @contextmanager
    def learning(*args: Any, **how: Any) -> Iterator[Session]:
        with opened(*args, **how) as session:
            yield replace(session, learn=learned.extend)

    monkeypatch.setattr(opening, "open_session", learning)

    def tried(*args: Any) -> None:
        assert learned == [Secret("push --token=hush")]
        raise UsageError("enough")

    monkeypatch.setattr(config_set, "tried", tried)
    assert run(["config", "set", "archive_command=push --token=hush", "work_mem=4MB"]) == 2
