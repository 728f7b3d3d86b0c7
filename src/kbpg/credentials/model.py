"""What the credentials are, and where new passwords come from."""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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

ROLE = re.compile(r"POSTGRES_ROLE_[A-Z_][A-Z0-9_]*_PASS")
"""The names of the passwords of the inventory's own roles; those of roles that left it stay in the file."""

ALPHABET = string.ascii_letters + string.digits
"""What generated passwords are made of: needs no quoting in a shell, URL, YAML, ini or SQL text."""
LENGTH = 32
"""Characters of a generated password: 32 of 62 kinds are 190 bits."""


@dataclass(frozen=True)
class Credentials:
    """Every user and password that kbpg sets.

    `roles` are the passwords of the inventory's own roles. `generated` are the names of the file whose passwords
    were made up just now: nobody has written them down yet.
    """

    superuser: str
    app_user: str
    superuser_password: Secret
    app_password: Secret
    replication_password: Secret
    rewind_password: Secret
    pgbouncer_password: Secret
    raft_password: Secret
    rest_password: Secret
    roles: Mapping[str, Secret] = field(default_factory=dict, hash=False)
    generated: frozenset[str] = field(default=frozenset(), compare=False)

    def values(self) -> dict[str, Secret]:
        """Return the value of every name of the file, in the order they are written."""
        fields = {**USERS, **PASSWORDS}
        found = {name: getattr(self, fields[name]) for name in NAMES}
        shown = {name: value if isinstance(value, Secret) else Secret(value) for name, value in found.items()}
        return {**shown, **{role_password_name(role): value for role, value in self.roles.items()}}


def role_password_name(role: str) -> str:
    """Return the name in the file of a role's password. Roles' names are lower case, so no two get the same."""
    return f"POSTGRES_ROLE_{role.upper()}_PASS"


def generate_password() -> Secret:
    """Return a new random password of `LENGTH` characters from `ALPHABET`."""
    return Secret("".join(secrets.choice(ALPHABET) for _ in range(LENGTH)))


def generate(superuser: str, app_user: str, roles: Sequence[str] = ()) -> Credentials:
    """Return new credentials for these users and roles (the inventory's), every password its own."""
    passwords = {field_: generate_password() for field_ in PASSWORDS.values()}
    own = {role: generate_password() for role in roles}
    names = frozenset((*PASSWORDS, *map(role_password_name, roles)))
    return Credentials(superuser, app_user, **passwords, roles=own, generated=names)


def all_secrets(credentials: Credentials) -> tuple[Secret, ...]:
    """Return every password, for whoever removes secrets from what is shown."""
    return (*(getattr(credentials, field_) for field_ in PASSWORDS.values()), *credentials.roles.values())
