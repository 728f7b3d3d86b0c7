"""`kbpg credentials` on its own, with what the main command would hand over."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kbpg.cli.credentials import app
from kbpg.credentials import NAMES, generate, render, write
from kbpg.errors import CredentialsError
from kbpg.secret import Secret

INVENTORY = """
cluster: {name: test}
db:
  - {name: a, address: 192.0.2.1}
  - {name: b, address: 192.0.2.2}
  - {name: c, address: 192.0.2.3}
proxies:
  - {name: p, address: 192.0.2.11}
"""
PASSWORD = "hunter2'hunter2"


@dataclass
class Options:
    inventory: Path
    json: bool


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    credentials = replace(generate("kb_admin", "kb_app"), app_password=Secret(PASSWORD))
    write(tmp_path / "credentials" / "postgres.env", render(credentials))
    return tmp_path


def run(directory: Path, *arguments: str, as_json: bool = False) -> Result:
    options = Options(directory / "inventory.yaml", as_json)
    return CliRunner().invoke(app, list(arguments), obj=options)


def test_path(directory: Path) -> None:
    file = directory / "credentials" / "postgres.env"
    assert run(directory, "path").stdout == f"{file}\n"
    assert json.loads(run(directory, "path", as_json=True).stdout) == {"path": str(file), "exists": True}
    file.unlink()
    assert run(directory, "path").stdout == f"{file}\n"
    assert json.loads(run(directory, "path", as_json=True).stdout)["exists"] is False


def test_show_masks_the_passwords(directory: Path) -> None:
    result = run(directory, "show")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[:4] == [
        "POSTGRES_SUPERUSER='kb_admin'",
        "POSTGRES_SUPERPASS=***",
        "POSTGRES_APP_USER='kb_app'",
        "POSTGRES_APP_PASS=***",
    ]
    assert len(result.stdout.splitlines()) == len(NAMES)
    assert result.stderr == ""


def test_show_prints_passwords_as_a_shell_reads_them(directory: Path) -> None:
    result = run(directory, "show", "--show-passwords")
    assert "POSTGRES_APP_PASS='hunter2'\\''hunter2'" in result.stdout.splitlines()
    assert "***" not in result.stdout


def test_show_json(directory: Path) -> None:
    masked = json.loads(run(directory, "show", as_json=True).stdout)
    assert masked["path"] == str(directory / "credentials" / "postgres.env")
    assert masked["mode"] == "0600"
    assert masked["credentials"]["POSTGRES_APP_USER"] == "kb_app"
    assert masked["credentials"]["POSTGRES_APP_PASS"] == "***"
    shown = json.loads(run(directory, "show", "--show-passwords", as_json=True).stdout)
    assert shown["credentials"]["POSTGRES_APP_PASS"] == PASSWORD


def test_show_says_what_step_00_would_change(directory: Path) -> None:
    file = directory / "credentials" / "postgres.env"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    file.chmod(0o640)
    result = run(directory, "show")
    assert result.exit_code == 0
    assert "PATRONI_REST_PASS" not in result.stdout
    assert result.stderr.splitlines() == [
        f"{file}: kbpg step 00 will add PATRONI_REST_PASS",
        f"{file}: mode 0640 lets others at it, kbpg step 00 makes it 0600",
    ]


def test_show_refuses_a_missing_file_and_other_users(directory: Path) -> None:
    file = directory / "credentials" / "postgres.env"
    file.write_text(file.read_text().replace("kb_app", "shop"))
    other = run(directory, "show")
    assert isinstance(other.exception, CredentialsError)
    assert "is shop, but cluster.app_user in the inventory is kb_app" in other.exception.message
    file.unlink()
    missing = run(directory, "show")
    assert isinstance(missing.exception, CredentialsError)
    assert missing.exception.message == f"{file}: no such file"
    assert missing.stdout == ""
