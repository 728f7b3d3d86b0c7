"""The credentials file (`credentials/postgres.env`): read, completed, generated, written.

Step 00 in one go::

    found = load(path)
    credentials = complete(found) if found else generate(superuser, app_user)
    write(path, render(credentials, found))
"""

from kbpg.credentials.completing import check_users, complete
from kbpg.credentials.found import Found, load, parse
from kbpg.credentials.model import (
    NAMES,
    PASSWORDS,
    REQUIRED,
    ROLE,
    USERS,
    Credentials,
    all_secrets,
    generate,
    generate_password,
    role_password_name,
)
from kbpg.credentials.shell import quote
from kbpg.credentials.store import render, write

__all__ = [
    "NAMES",
    "PASSWORDS",
    "REQUIRED",
    "ROLE",
    "USERS",
    "Credentials",
    "Found",
    "all_secrets",
    "check_users",
    "complete",
    "generate",
    "generate_password",
    "load",
    "parse",
    "quote",
    "render",
    "role_password_name",
    "write",
]
