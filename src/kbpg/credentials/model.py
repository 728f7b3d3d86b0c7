"""What the credentials are, and where new passwords come from."""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from kbpg.secret import Secret

USERS: Mapping[str, str] = MappingProxyType(
    {"POSTGRES_SUPERUSER": "superuser", "POSTGRES_APP_USER": "app_user"}
)
"""Names in the file of what is no secret, and the fields of `Credentials` they become."""
PASSWORDS: Mapping[str, str] = MappingProxyType(
    {
        "POSTGRES_SUPERPASS": "superuser_password",
        "POSTGRES_APP_PASS": "app_password",
        "POSTGRES_REPLICATION_PASS": "replication_password",
        "POSTGRES_REWIND_PASS": "rewind_password",
        "PGBOUNCER_AUTH_PASS": "pgbouncer_password",
        "RAFT_PASS": "raft_password",
        "PATRONI_REST_PASS": "rest_password",
    }
)
"""Names in the file of the passwords, and the fields of `Credentials` they become."""
REQUIRED = ("POSTGRES_SUPERUSER", "POSTGRES_SUPERPASS", "POSTGRES_APP_USER", "POSTGRES_APP_PASS")
"""A file has all of these; the others are added where they are missing."""
NAMES = (*REQUIRED, *(name for name in PASSWORDS if name not in REQUIRED))
"""All names, in the order they are written."""

ALPHABET = string.ascii_letters + string.digits
"""What generated passwords are made of: needs no quoting in a shell, URL, YAML, ini or SQL text."""
LENGTH = 32
"""Characters of a generated password: 32 of 62 kinds are 190 bits."""


@dataclass(frozen=True)
class Credentials:
    """Every user and password that kbpg sets."""

    superuser: str
    app_user: str
    superuser_password: Secret
    app_password: Secret
    replication_password: Secret
    rewind_password: Secret
    pgbouncer_password: Secret
    raft_password: Secret
    rest_password: Secret

    def values(self) -> dict[str, Secret]:
        """Return the value of every name of the file, in the order they are written."""
        fields = {**USERS, **PASSWORDS}
        found = {name: getattr(self, fields[name]) for name in NAMES}
        return {name: value if isinstance(value, Secret) else Secret(value) for name, value in found.items()}


def generate_password() -> Secret:
    """Return a new random password of `LENGTH` characters from `ALPHABET`."""
    return Secret("".join(secrets.choice(ALPHABET) for _ in range(LENGTH)))


def generate(superuser: str, app_user: str) -> Credentials:
    """Return new credentials for these users (the inventory's), every password its own."""
    return Credentials(superuser, app_user, **{field: generate_password() for field in PASSWORDS.values()})


def all_secrets(credentials: Credentials) -> tuple[Secret, ...]:
    """Return every password, for whoever removes secrets from what is shown."""
    return tuple(getattr(credentials, field) for field in PASSWORDS.values())
