"""`kbpg raft`: the consensus inside Patroni, all members side by side, and what mends it."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Look at the consensus inside Patroni, and mend it.")


@app.command()
def status(ctx: typer.Context) -> None:
    """Show all members side by side.

    Exit code 0: all agree; 1: they do not, one is silent, or a ghost is counted.
    """
    from kbpg.cli.raft_doctor import status

    raise typer.Exit(status(ctx.obj))


@app.command("remove-member")
def remove_member(
    ctx: typer.Context,
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS:PORT", help="The member, as raft status shows it.")
    ],
) -> None:
    """Remove a member that is gone for good, so that it no longer counts for the quorum."""
    from kbpg.cli.raft_doctor import remove

    raise typer.Exit(remove(ctx.obj, address))


@app.command()
def rebuild(
    ctx: typer.Context,
    without: Annotated[
        list[str] | None,
        typer.Option(
            "--without",
            metavar="DB_HOST",
            help="Go on without this db host: gone for good and switched off, or with data that cannot be read; "
            "may be repeated.",
        ),
    ] = None,
) -> None:
    """Build the consensus anew from the most advanced node, after its quorum was lost for good.

    Stops the database on all nodes. Data directories are not touched. Killed at any point, run it again. A host
    that is not reached may lead on, out of sight: switch it off first, or there are two leaders.
    """
    from kbpg.cli.raft_doctor import rebuild

    raise typer.Exit(rebuild(ctx.obj, tuple(without or ())))
