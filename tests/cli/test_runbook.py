"""The commands in the runbook exist, with the options that it gives them. That they work is seen on the lab."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from kbpg.cli.app import command
from kbpg.options import Options

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"


def commands() -> list[str]:
    """Return the lines of code blocks that call kbpg, and what is said in backquotes."""
    text = DOCUMENT.read_text()
    blocks = re.findall(r"^ *```\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    spoken = re.findall(r"`(kbpg [a-z][^`]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return sorted({line for line in (*lines, *spoken) if line.startswith("kbpg ")})


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_runbook_can_be_parsed(line: str) -> None:
    words = shlex.split(line.partition(" < ")[0])[1:]
    current = command()
    context = current.make_context("kbpg", words, obj=Options())
    while hasattr(current, "commands"):
        name, current, rest = current.resolve_command(context, [*context._protected_args, *context.args])
        context = current.make_context(name, rest, parent=context)


def test_there_are_commands() -> None:
    assert len(commands()) > 40


def test_every_reference_leads_somewhere() -> None:
    text = DOCUMENT.read_text()
    titles = re.findall(r"^## (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors
