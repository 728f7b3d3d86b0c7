"""`kbpg journal`: who ran what on which hosts, from the files that kbpg leaves beside the inventory."""

from __future__ import annotations

from typing import Annotated

import typer

from kbpg.errors import UsageError

app = typer.Typer(help="Show who ran what on which hosts, and how it ended; no host is contacted.")

LAST = 20
"""Runs that are listed when nobody says how many."""

Hosts = Annotated[
    list[str] | None,
    typer.Option("--host", metavar="HOST", help="Only what ran on this host; may be repeated."),
]
Changes = Annotated[
    bool, typer.Option("--changes", help="Only commands that may have changed something, not mere looks.")
]


@app.callback(invoke_without_command=True)
def runs(
    ctx: typer.Context,
    last: Annotated[
        int, typer.Option("--last", metavar="N", min=1, help=f"So many runs, the newest ones ({LAST}).")
    ] = LAST,
    host: Hosts = None,
    changes: Changes = False,
) -> None:
    """List the runs of kbpg, newest first; show has the commands of one.

    Acts are the commands that may have changed something.
    """
    if ctx.invoked_subcommand is not None:
        if host or changes or last != LAST:
            raise UsageError("options of show stand behind it", hint="kbpg journal show RUN --host HOST")
        return
    from kbpg.cli.auditing import runs

    hosts = frozenset((*(host or ()), *ctx.obj.limit))
    raise typer.Exit(runs(ctx.obj, last=last, hosts=hosts, changes=changes))


@app.command()
def show(
    ctx: typer.Context,
    which: Annotated[
        str, typer.Argument(metavar="RUN", help="A run as the list names it, its file's name, or: last.")
    ],
    host: Hosts = None,
    changes: Changes = False,
) -> None:
    """Show the commands of one run, in the order in which they began.

    Secrets are masked; what went through standard input was never written down. Long commands are cut, -v shows them
    whole.
    """
    from kbpg.cli.auditing import show

    hosts = frozenset((*(host or ()), *ctx.obj.limit))
    raise typer.Exit(show(ctx.obj, which, hosts=hosts, changes=changes))
