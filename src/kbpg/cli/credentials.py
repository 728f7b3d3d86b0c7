"""`kbpg credentials`: look at the credentials file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kbpg.cli.exact import echo_exactly

if TYPE_CHECKING:
    from pathlib import Path

    from kbpg.credentials import Found
    from kbpg.model import Step

app = typer.Typer(
    no_args_is_help=True,
    help="Show the credentials, say where they are, rotate them, renew certificates, recover a lost file.",
)
CERTIFIED = (0, 2, 3, 4)
"""The steps that write certificates, and load them."""


@app.command()
def show(
    ctx: typer.Context,
    show_passwords: Annotated[
        bool, typer.Option("--show-passwords", help="Print the passwords instead of ***.")
    ] = False,
) -> None:
    """Check the credentials file and print what it holds."""
    import json

    from kbpg.credentials import USERS, quote
    from kbpg.secret import MASK

    found = _found(ctx)
    values = {
        name: secret.reveal() if show_passwords or name in USERS else MASK
        for name in dict.fromkeys((*found.names, *found.values))
        if (secret := found.values.get(name))
    }
    if ctx.obj.json:
        everything = {name: values.get(name) for name in dict.fromkeys((*found.names, *values))}
        mode = None if found.mode is None else f"{found.mode:04o}"
        document = {"path": str(found.path), "mode": mode, "credentials": everything}
        echo_exactly(json.dumps(document, indent=2, ensure_ascii=False))
        return
    for name, value in values.items():
        echo_exactly(f"{name}={value if value == MASK else quote(value)}")
    _remarks(found)


@app.command()
def path(ctx: typer.Context) -> None:
    """Print the path of the credentials file, whether it exists or not."""
    import json

    file = _path(ctx)
    echo_exactly(json.dumps({"path": str(file), "exists": file.is_file()}) if ctx.obj.json else str(file))


@app.command()
def recover(
    ctx: typer.Context,
    ask_app_password: Annotated[
        bool,
        typer.Option(
            "--ask-app-password",
            help="Read the application's password from standard input; it is checked against the server.",
        ),
    ] = False,
    new_app_password: Annotated[
        bool,
        typer.Option("--new-app-password", help="Make a new one, which apply-all puts in force."),
    ] = False,
) -> None:
    """Write a lost credentials file anew, from what the hosts themselves have; nothing is shown."""
    from kbpg.cli.recovering import recover

    raise typer.Exit(recover(ctx.obj, ask=ask_app_password, new=new_app_password))


@app.command("renew-tls")
def renew_tls(ctx: typer.Context) -> None:
    """Issue every host's certificate anew, and load them one host after another; clients see no error.

    HAProxy reloads: a connection straight to it, past PgBouncer, may go on for haproxy.drain_timeout, one hour.
    The certificate authority stays. apply-all renews what has fewer than 30 days left by itself.
    """
    from kbpg.cli.running import apply
    from kbpg.errors import UsageError
    from kbpg.inventory import load

    if (own := load(ctx.obj.inventory).own_certificates_path) is not None:
        raise UsageError(
            f"the certificates in {own} are your own", hint="replace them there, then kbpg apply-all"
        )
    ctx.obj.renew_tls = True
    raise typer.Exit(apply(ctx.obj, _certified, doing="credentials renew-tls", writing=True))


def _certified() -> list[Step]:
    from kbpg.steps import ALL

    return [step for step in ALL if step.number in CERTIFIED]


@app.command()
def rotate(
    ctx: typer.Context,
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WHAT",
            help="app, superuser, replication, rewind, pgbouncer, rest, raft, role NAME (one of the inventory's), or "
            "all: every one of these. raft restarts one db host after another, the leader too: see "
            "docs/credentials.md.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="End a rotation that was broken off.")] = False,
    cut_transactions: Annotated[
        bool,
        typer.Option(
            "--cut-transactions",
            help="For pgbouncer and raft: cut transactions that do not end, instead of giving up.",
        ),
    ] = False,
) -> None:
    """Put new passwords into force, one after another, while clients go on.

    The old file stays until each new password is proven to be let in, and each old one to be refused. Until then
    the new ones are in postgres.env.new beside it. Killed half-way, --resume goes on.
    """
    from kbpg.cli.rotating import rotate

    raise typer.Exit(rotate(ctx.obj, what or [], resume=resume, cut=cut_transactions))


def _path(ctx: typer.Context) -> Path:
    from kbpg.inventory import load

    return load(ctx.obj.inventory).credentials_path


def _found(ctx: typer.Context) -> Found:
    """Return the credentials file, checked against the inventory; raises InputError."""
    from kbpg.credentials import check_users
    from kbpg.credentials import load as load_credentials
    from kbpg.errors import CredentialsError
    from kbpg.inventory import load

    inventory = load(ctx.obj.inventory)
    found = load_credentials(inventory.credentials_path, inventory.login_roles)
    if found is None:
        raise CredentialsError(
            f"{inventory.credentials_path}: no such file", hint="kbpg step 00 generates the credentials"
        )
    check_users(found, superuser=inventory.cluster.superuser, app_user=inventory.cluster.app_user)
    return found


def _remarks(found: Found) -> None:
    from kbpg.credentials import rotation

    if rotation.new_path(found.path).exists():
        typer.echo(
            f"{found.path}: a rotation is not ended, the new passwords are in {rotation.new_path(found.path)}",
            err=True,
        )
    if found.missing:
        typer.echo(f"{found.path}: kbpg step 00 will add {', '.join(found.missing)}", err=True)
    if found.too_open:
        typer.echo(
            f"{found.path}: mode {found.mode:04o} lets others at it, kbpg step 00 makes it 0600", err=True
        )
