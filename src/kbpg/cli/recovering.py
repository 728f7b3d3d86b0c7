"""`kbpg credentials recover`: what it asks, shows and writes."""

from __future__ import annotations

import getpass
import sys
from typing import Any

from kbpg import credentials
from kbpg.cli.closing import left_out
from kbpg.cli.opening import PATIENCE
from kbpg.console import Console, Line, Style
from kbpg.context import Context
from kbpg.credentials.model import role_password_name
from kbpg.errors import CredentialsError, Exit, Refused, UsageError
from kbpg.operations import recovering
from kbpg.operations.place import site_of
from kbpg.operations.recovering import APP_PASSWORD, Remains
from kbpg.options import Options
from kbpg.secret import Secret
from kbpg.session import open_session, read_context


def recover(options: Options, *, ask: bool, new: bool) -> int:
    """Write the credentials file anew from what the hosts have, and return the exit code.

    `ask`: the application's password is read from standard input; `new`: it gets a new one.
    """
    if ask and new:
        raise UsageError("--ask-app-password and --new-app-password exclude each other")
    context, found = read_context(options)
    path = context.inventory.credentials_path
    if found is not None:
        raise CredentialsError(f"{path}: is there already", hint="move it away first, if it is the wrong one")
    with Console(color=options.color, mask=options.masked) as console:
        seen = _look(console, options, context)
        if refusal := recovering.why_not_recover(context, seen):
            raise refusal
        console.say(found_lines(context, seen))
        password = _app_password(context, seen, ask=ask, new=new)
        _write(context, seen, password)
        if options.json:
            console.data(_document(context, seen, password))
        else:
            console.result(_done(context, seen, password))
    return int(Exit.OK)


def _look(console: Console, options: Options, context: Context) -> Remains:
    """Return what the hosts that can be reached know, and say which cannot."""
    options.patience = PATIENCE
    console.busy("reading the hosts")
    with open_session(
        options,
        doing="credentials recover",
        lock=False,
        partial=True,
        ask=console.asking,
    ) as session:
        site = site_of(context, session.hosts, session.controller, lambda place, text: None)
        seen = recovering.look(site)
        away = left_out(session.unreachable)
    console.rest()
    console.say(away)
    return seen


def _document(context: Context, seen: Remains, password: Secret | None) -> dict[str, Any]:
    return {
        "path": str(context.inventory.credentials_path),
        "recovered": sorted(seen.passwords),
        "kept": [APP_PASSWORD] if password else [],
        "new": [] if password else [APP_PASSWORD],
    }


def found_lines(context: Context, seen: Remains) -> list[Line]:
    """Return where each password was found, and whether the server takes it."""
    words = {True: ", fits the server's verifier", None: "", False: ", does not fit"}
    fits = recovering.checks(context, seen)
    return [
        Line(f"{name}: found on {', '.join(hosts)}{words[fits.get(name)]}")
        for name, hosts in seen.sources.items()
    ]


def _app_password(context: Context, seen: Remains, *, ask: bool, new: bool) -> Secret | None:
    """Return the application's password, None for a new one. Raises `Refused` where neither is wanted."""
    user = context.inventory.cluster.app_user
    if new or (seen.verifiers and user not in seen.verifiers):
        return None
    if not ask:
        raise Refused(
            f"nothing was written: {APP_PASSWORD} is on no host, the server has only its verifier",
            hint="--ask-app-password reads it from standard input (your applications know it) and checks it; "
            "--new-app-password makes a new one, which apply-all puts in force",
        )
    prompt = f"password of {user}: "
    given = getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if not recovering.fits_application(context, seen, Secret(given)):
        raise Refused(f"nothing was written: that is not the password of {user}")
    return Secret(given)


def _write(context: Context, seen: Remains, password: Secret | None) -> None:
    """Write the file, after it was read as any other command would read it."""
    path = context.inventory.credentials_path
    text = credentials.render(recovering.credentials_of(context, seen, password))
    credentials.parse(text.reveal(), path=path)
    credentials.write(path, text)


def _done(context: Context, seen: Remains, password: Secret | None) -> list[Line]:
    lines = [Line(f"{context.inventory.credentials_path} is written; keep a copy of it", Style.GOOD)]
    if password is None:
        user = context.inventory.cluster.app_user
        lines.append(
            Line(
                f"{user} has a new password from the next kbpg apply-all on: tell your applications",
                Style.WARNING,
            )
        )
    lines += [
        Line(f"{role_password_name(role)}: on no host; put it into the file by hand", Style.WARNING)
        for role in context.inventory.login_roles
        if seen.verifiers.get(role)
    ]
    return [*lines, Line("next: kbpg plan", Style.HINT)]
