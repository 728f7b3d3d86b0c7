"""From a credentials file to credentials: the users are the inventory's, passwords it lacks are generated."""

from __future__ import annotations

from kbpg.credentials.found import Found
from kbpg.credentials.model import PASSWORDS, USERS, Credentials, generate_password, role_password_name
from kbpg.errors import CredentialsError


def complete(found: Found) -> Credentials:
    """Return the credentials of a file; passwords it lacks are generated: write the file afterwards."""
    users = {field_: found.values[name].reveal() for name, field_ in USERS.items()}
    passwords = {field_: found.values.get(name) or generate_password() for name, field_ in PASSWORDS.items()}
    own = {role: found.values.get(role_password_name(role)) or generate_password() for role in found.roles}
    generated = frozenset(found.missing)
    return Credentials(users["superuser"], users["app_user"], **passwords, roles=own, generated=generated)


def check_users(found: Found, *, superuser: str, app_user: str) -> None:
    """Raise CredentialsError where the file's users are not those of the inventory."""
    wanted = {"POSTGRES_SUPERUSER": superuser, "POSTGRES_APP_USER": app_user}
    keys = {"POSTGRES_SUPERUSER": "cluster.superuser", "POSTGRES_APP_USER": "cluster.app_user"}
    problems = [
        f"{found.path}:{found.lines[name]}: {name}: is {found.values[name].reveal()}, "
        f"but {keys[name]} in the inventory is {user}"
        for name, user in wanted.items()
        if found.values[name].reveal() != user
    ]
    if problems:
        raise CredentialsError("\n".join(problems), hint="give both files the same user names")
