"""`kbpg drill`: the cluster is broken on purpose, and what clients saw is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("drill")(drill)


def drill(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[DRILL...]", help="Which, or all, or random; without one they are listed."),
    ] = None,
    times: Annotated[int, typer.Option("--times", metavar="N", min=1, max=100, help="How often each.")] = 1,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="DIR", help="Write drill.html, drill.md, drill.json and junit.xml there."
        ),
    ] = None,
    i_mean_it: Annotated[
        str,
        typer.Option(
            "--i-mean-it", metavar="NAME", help="The cluster's name, where its hosts are not a lab's."
        ),
    ] = "",
    minutes: Annotated[
        float,
        typer.Option("--minutes", metavar="N", min=0.1, max=1440, help="How long a random order goes on."),
    ] = 10.0,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="Of a random order, to repeat it.")
    ] = None,
    clients: Annotated[
        int, typer.Option("--clients", metavar="N", min=2, max=200, help="Clients that write through 6432.")
    ] = 12,
) -> None:
    """Break the cluster on purpose, while clients write and read, and say what they saw.

    Each drill ends with the cluster whole again. Clients connect from this machine to the proxies, as applications
    do, and work in a database of their own, which is dropped. Exit code 1 when an acknowledged row is lost or the
    cluster does not recover.
    """
    from kbpg.cli.drills import listed, run
    from kbpg.drills.ordering import Order

    if not names:
        raise typer.Exit(listed(ctx.obj))
    order = Order(tuple(names), times, minutes, seed)
    raise typer.Exit(run(ctx.obj, order, report, i_mean_it, clients))
