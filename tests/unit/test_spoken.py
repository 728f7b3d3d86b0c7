"""The command line as the journal has it."""

from __future__ import annotations

import pytest

from kbpg.cli.spoken import spoken, unspoken
from kbpg.secret_settings import without_secrets


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


@pytest.mark.parametrize(
    ("word", "masked"),
    [
        ("archive_command=push --token=x=y", "push --token=x=y"),
        ("postgresql.parameters.primary_conninfo=host=a", "host=a"),
        ("my.key=A1-b2", "A1-b2"),
        ("my.password=123456", "123456"),
        ("cluster_name=https://u:pw@h/d", "https://u:pw@h/d"),
        ("work_mem=64MB", None),
        ("archive_command=true", None),
        ("password_encryption=scram-sha-256", None),
        ("pg_stat_statements.max=10000", None),
        ("auto_explain.log_min_duration=250 ms", None),
        ("pg_stat_statements.track=top", None),
    ],
)
def test_what_is_left_out_is_masked_elsewhere_unless_it_is_a_word_like_any_other(
    word: str, masked: str | None
) -> None:
    assert [secret.reveal() for secret in unspoken([word])] == ([] if masked is None else [masked])


def test_a_document_is_told_without_values_that_may_be_secrets() -> None:
    parameters = {
        "archive_command": "push --token=x",
        "work_mem": "4MB",
        "my.key": 1,
        "restore_command": None,
    }
    document = {"ttl": 30, "standby": [{"primary_conninfo": "p"}], "postgresql": {"parameters": parameters}}
    assert without_secrets(document) == {
        "ttl": 30,
        "standby": [{"primary_conninfo": "***"}],
        "postgresql": {
            "parameters": {
                "archive_command": "***",
                "work_mem": "4MB",
                "my.key": "***",
                "restore_command": None,
            }
        },
    }
