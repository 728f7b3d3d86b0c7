"""The commands that move the leadership, restart PostgreSQL and clone replicas."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to `app`, in the order in which `kbpg --help` shows them."""
    app.command("switchover")(switchover)
    app.command("restart")(restart)
    app.command("reinit")(reinit)


Without = Annotated[
    list[str] | None,
    typer.Option(
        "--without",
        metavar="PROXY",
        help="Go on though clients of this proxy cannot be made to wait, and see errors; may be repeated.",
    ),
]
Cut = Annotated[
    bool,
    typer.Option("--cut-transactions", help="Cut transactions that do not end, instead of giving up."),
]


def switchover(
    ctx: typer.Context,
    to: Annotated[
        str, typer.Option("--to", metavar="HOST", help="Who is to lead; without it the best replica.")
    ] = "",
    without: Without = None,
    cut_transactions: Cut = False,
) -> None:
    """Let another node lead, while the clients of PgBouncer wait and see no error.

    Clients that come past PgBouncer, straight to HAProxy's ports, are cut off and have to connect again.
    """
    from kbpg.cli.handing_over import switchover

    raise typer.Exit(switchover(ctx.obj, to, tuple(without or ()), cut=cut_transactions))


def restart(
    ctx: typer.Context,
    host: Annotated[
        list[str] | None, typer.Option("--host", metavar="HOST", help="Only this db host; may be repeated.")
    ] = None,
    pending: Annotated[
        bool, typer.Option("--pending", help="Only nodes where a parameter waits for a restart.")
    ] = False,
    without: Without = None,
) -> None:
    """Restart PostgreSQL, one node at a time: replicas first, the leader last and after a switchover.

    Before each node all others must stream and see a quorum. Clients of PgBouncer see no error.
    """
    from kbpg.cli.handing_over import restart

    raise typer.Exit(restart(ctx.obj, tuple(host or ()), tuple(without or ()), pending=pending))


def reinit(
    ctx: typer.Context,
    host: Annotated[str, typer.Argument(metavar="HOST", help="The replica.")],
) -> None:
    """Replace the data of a replica by a new copy of the leader's.

    Refused for the leader, without a healthy leader of the same cluster, and where there is no room.
    """
    from kbpg.cli.handing_over import reinit

    raise typer.Exit(reinit(ctx.obj, host))
