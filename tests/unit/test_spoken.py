"""The command line as the journal has it."""

from __future__ import annotations

import pytest

from kbpg.cli.spoken import spoken


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("apply-all --limit db-1,db-2", "apply-all --limit db-1,db-2"),
        ("-i a.yaml psql --host db-1 -- -c x", "-i a.yaml psql ***"),
        ("--limit psql psql", "--limit psql psql"),
        ("--json psql -c password", "--json psql ***"),
        ("config set work_mem=64MB ttl=30", "config set work_mem=64MB ttl=30"),
        ("config set postgresql.parameters.work_mem=1MB", "config set postgresql.parameters.work_mem=1MB"),
        ("config set archive_command=curl", "config set archive_command=***"),
        ("config set primary_conninfo=x=y", "config set primary_conninfo=***"),
        ("config set my.key=x", "config set my.key=***"),
        ("config set --unset ssl_passphrase_command", "config set --unset ssl_passphrase_command"),
        ("uri postgresql://u:secret@h/d", "uri postgresql://***@h/d"),
        ("", ""),
    ],
)
def test_what_may_be_a_secret_is_left_out(line: str, kept: str) -> None:
    assert " ".join(spoken(line.split())) == kept
