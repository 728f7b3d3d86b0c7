"""`kbpg`: all commands in one tree. Importing this must stay cheap: each command imports what it needs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kbpg import __version__
from kbpg.cli import (
    cluster,
    configuring,
    credentials,
    drilling,
    inventory,
    journal,
    lab,
    operating,
    raft,
    switching,
    validating,
)
from kbpg.cli.options import share

app = typer.Typer(
    name="kbpg",
    help="Highly available PostgreSQL on plain hosts: Patroni, HAProxy, PgBouncer, pgvector.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kbpg {__version__}")
        raise typer.Exit


@app.callback()
def _kbpg(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


cluster.register(app)
validating.register(app)
switching.register(app)
operating.register(app)
drilling.register(app)
app.add_typer(configuring.app, name="config")
app.add_typer(inventory.app, name="inventory")
app.add_typer(credentials.app, name="credentials")
app.add_typer(raft.app, name="raft")
app.add_typer(journal.app, name="journal")
app.add_typer(lab.app, name="lab")


def command() -> Any:
    """Return the whole tree as one command, the global options everywhere in it."""
    return share(typer.main.get_command(app))
