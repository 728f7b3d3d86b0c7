"""`kbpg config`: the configuration that all nodes share, as it is and as it is to be."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, help="Show and change the configuration of the cluster: PostgreSQL's and Patroni's."
)


@app.command()
def show(ctx: typer.Context) -> None:
    """Show the configuration of the cluster, what the inventory wants, and what waits for a restart.

    Exit code 0: they agree and nothing waits; 3: kbpg apply-all would change something.
    """
    from kbpg.cli.settings import show

    raise typer.Exit(show(ctx.obj))


@app.command("set")
def set_(
    ctx: typer.Context,
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="PostgreSQL's parameters (work_mem=64MB), Patroni's timers (ttl=30), failover=PRESET.",
        ),
    ] = None,
    unset: Annotated[
        list[str] | None,
        typer.Option(
            "--unset",
            metavar="KEY",
            help="Take it out of the inventory: what kbpg computes is in force again; may be repeated.",
        ),
    ] = None,
) -> None:
    """Change settings in the inventory and in the cluster, restarting one node after another where needed.

    What PostgreSQL would refuse is refused before anything is touched. The inventory keeps its comments and its
    order. If the cluster refuses, both are brought back.
    """
    from kbpg.cli.settings import change

    raise typer.Exit(change(ctx.obj, settings or [], unset or []))
