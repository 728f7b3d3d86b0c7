"""The commands of those who run a cluster: by hand what Patroni does not do by itself, and a look inside."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to `app`, in the order in which `kbpg --help` shows them."""
    app.command("failover")(failover)
    app.command("pause")(pause)
    app.command("resume")(resume)
    app.command("psql")(psql)
    app.command("logs")(logs)
    app.command("destroy")(destroy)


def failover(
    ctx: typer.Context,
    to: Annotated[str, typer.Option("--to", metavar="HOST", help="The db host that is to lead.")],
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Go on although another node's data reaches farther.")
    ] = False,
) -> None:
    """Make a node the leader of a cluster that has none.

    Says first how far each node's data reaches and what would be lost; goes ahead with --yes only. Refused while a
    leader exists. Without a quorum of Raft: kbpg raft rebuild.
    """
    from kbpg.cli.maintaining import failover

    raise typer.Exit(failover(ctx.obj, to, accept_loss=accept_loss))


def pause(ctx: typer.Context) -> None:
    """Switch automatic failover off, on all nodes, to work on the cluster by hand.

    Until kbpg resume, nobody takes over when the leader fails, and apply-all keeps out.
    """
    from kbpg.cli.maintaining import pause

    raise typer.Exit(pause(ctx.obj, paused=True))


def resume(ctx: typer.Context) -> None:
    """Switch automatic failover on again."""
    from kbpg.cli.maintaining import pause

    raise typer.Exit(pause(ctx.obj, paused=False))


def psql(
    ctx: typer.Context,
    host: Annotated[
        str | None, typer.Option("--host", metavar="HOST", help="This db host instead of the leader.")
    ] = None,
    pooled: Annotated[
        bool, typer.Option("--pooled", help="As the application, through PgBouncer, as its clients come.")
    ] = False,
    command: Annotated[
        list[str] | None,
        typer.Option("--command", "-c", metavar="SQL", help="Run this and end; may be repeated."),
    ] = None,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- ARGS]", help="Given to psql as they are.")
    ] = None,
) -> None:
    """Open psql on the leader, as the superuser, in the application's database.

    Over SSH, inside the container; no password is asked for. SQL may also come through standard input.
    Exit code 1 when psql ends with anything but 0.
    """
    from kbpg.cli.attaching import psql

    words = [word for text in command or () for word in ("--command", text)]
    raise typer.Exit(psql(ctx.obj, [*words, *(arguments or ())], host=host, pooled=pooled))


def logs(
    ctx: typer.Context,
    host: Annotated[str, typer.Argument(metavar="HOST")],
    component: Annotated[
        str, typer.Argument(metavar="COMPONENT", help="patroni (PostgreSQL too), haproxy or pgbouncer.")
    ],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Such as 10m, 2h, 2026-11-23T15:00:00Z.")
    ] = None,
    lines: Annotated[
        int | None,
        typer.Option(
            "--lines", "-n", metavar="N", min=0, help="The last N lines (100, or all with --since)."
        ),
    ] = None,
) -> None:
    """Show the log of a program on a host; passwords in it are masked."""
    from kbpg.cli.attaching import logs

    raise typer.Exit(logs(ctx.obj, host, component, follow=follow, since=since, lines=lines))


def destroy(
    ctx: typer.Context,
    with_data: Annotated[
        bool, typer.Option("--with-data", help="The data too, after the cluster's name was typed.")
    ] = False,
    confirm: Annotated[
        str | None,
        typer.Option(
            "--confirm", metavar="NAME", help="The cluster's name, where nobody is there to type it."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Although clients are connected, or hosts cannot be reached.")
    ] = False,
    keep_images: Annotated[
        bool, typer.Option("--keep-images", help="Leave the images, so that apply-all need not send them.")
    ] = False,
) -> None:
    """Remove the cluster from its hosts: containers, configuration, images.

    The data stays, and apply-all brings the same cluster back from it, unless --with-data. Killed half-way, run it
    again.
    """
    from kbpg.cli.destroying import destroy
    from kbpg.operations.destroying import Wanted

    wanted = Wanted(with_data=with_data, force=force, keep_images=keep_images)
    raise typer.Exit(destroy(ctx.obj, wanted, confirm=confirm))
