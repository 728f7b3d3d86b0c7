"""The commands that build the cluster and look at it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kbpg.cli.exact import echo_exactly

if TYPE_CHECKING:
    from kbpg.model import Step

WATCH_SECONDS = 2
"""Seconds between two refreshes of `status --watch`: Patroni looks at the cluster about as often."""


def register(app: typer.Typer) -> None:
    """Add the commands to `app`, in the order in which `kbpg --help` shows them."""
    app.command("apply-all", cls=_WithSteps)(apply_all)
    app.command("step", cls=_WithSteps)(step)
    app.command("plan")(plan)
    app.command("diagnose")(diagnose)
    app.command("status", cls=_Watching)(status)
    app.command("uri")(uri)


class _WithSteps(typer.core.TyperCommand):
    """A command whose help ends with the list of steps, which only then is imported."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the steps."""
        from kbpg.steps import ALL

        with formatter.section("Steps"):
            formatter.write_dl([(step.label, step.summary) for step in ALL])


class _Watching(typer.core.TyperCommand):
    """A command whose `--watch` may stand without its number of seconds."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default in where the next word is none, or another option."""
        following = [*args[1:], "-"]
        words = [
            f"--watch={WATCH_SECONDS}" if word == "--watch" and after.startswith("-") else word
            for word, after in zip(args, following, strict=False)
        ]
        return super().parse_args(ctx, words)


def _step_names(incomplete: str) -> list[tuple[str, str]]:
    """Return what the shell may complete a step's name to."""
    from kbpg.steps import ALL

    return [(step.name, step.summary) for step in ALL if step.name.startswith(incomplete)]


Adopt = Annotated[
    bool,
    typer.Option(
        "--adopt", help="Take over a running cluster that is provably this one and was not started by kbpg."
    ),
]


def apply_all(ctx: typer.Context, adopt: Adopt = False) -> None:
    """Make everything as the inventory says.

    The steps run in order, and what is right already is left alone. Run it again after anything went wrong.
    """
    from kbpg.cli.running import apply, every_step

    _adopting(ctx, adopt)
    raise typer.Exit(apply(ctx.obj, every_step, doing="apply-all", writing=True))


def _adopting(ctx: typer.Context, adopt: bool) -> None:
    """Keep the consent. Raises `UsageError` with `--limit`: a cluster is taken over whole, or not at all."""
    from kbpg.errors import UsageError

    if adopt and ctx.obj.limit:
        raise UsageError("--adopt and --limit exclude each other", hint="a cluster is taken over whole")
    ctx.obj.adopt = adopt


def step(
    ctx: typer.Context,
    which: Annotated[
        str,
        typer.Argument(
            metavar="STEP", help="Number or name of a step: 3, 03 or haproxy.", autocompletion=_step_names
        ),
    ],
) -> None:
    """Do one step of apply-all."""
    from kbpg.cli.running import apply
    from kbpg.steps import ALL

    chosen = find_step(which)
    before = [each for each in ALL if each.number < chosen.number]
    doing, writing = f"step {chosen.label}", chosen.number == 0
    raise typer.Exit(apply(ctx.obj, lambda: (chosen,), doing=doing, writing=writing, after=before))


def plan(ctx: typer.Context, adopt: Adopt = False) -> None:
    """Say what apply-all would change; change nothing.

    Exit code 0: nothing; 3: something, listed with what it does to clients.
    """
    from kbpg.cli.running import every_step, plan

    _adopting(ctx, adopt)
    raise typer.Exit(plan(ctx.obj, every_step))


def diagnose(
    ctx: typer.Context,
    host: Annotated[
        list[str] | None,
        typer.Option("--host", metavar="HOST", help="Only findings of this host; may be repeated."),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what is safe to mend, asking before each repair.")
    ] = False,
) -> None:
    """Say what is wrong with the cluster, why, and the command that mends it.

    Exit code 0: healthy, notices allowed; 1: something critical; 3: warnings only.
    """
    from kbpg.cli.diagnosing import diagnose

    ctx.obj.limit |= frozenset(host or ())
    if repair:
        from kbpg.cli.repairing import repair as mend

        raise typer.Exit(mend(ctx.obj))
    raise typer.Exit(diagnose(ctx.obj))


def status(
    ctx: typer.Context,
    watch: Annotated[
        float | None,
        typer.Option(
            metavar="[SECONDS]",
            min=0.1,
            help=f"Refresh every so many seconds ({WATCH_SECONDS}), until Ctrl-C.",
        ),
    ] = None,
) -> None:
    """Show the cluster on one screen.

    Exit code 0: a leader serves, or the watch was ended; 1: none does.
    """
    from kbpg.cli.status import status

    raise typer.Exit(status(ctx.obj, every=watch))


def uri(
    ctx: typer.Context,
    direct: Annotated[bool, typer.Option("--direct", help="To the leader, through HAProxy.")] = False,
    pooled: Annotated[
        bool, typer.Option("--pooled", help="To the leader, through PgBouncer (the default).")
    ] = False,
    read_only: Annotated[
        bool,
        typer.Option(
            "--read-only", help="To the replicas, through HAProxy; with --pooled also through PgBouncer."
        ),
    ] = False,
    show_password: Annotated[
        bool, typer.Option("--show-password", help="Print the password instead of ***.")
    ] = False,
    database: Annotated[
        str | None, typer.Option("--database", metavar="NAME", help="One of the inventory's own databases.")
    ] = None,
    role: Annotated[
        str | None, typer.Option("--role", metavar="NAME", help="One of the inventory's own roles.")
    ] = None,
) -> None:
    """Print a connection string, one line, and nothing else.

    Without --database and --role, for the application.
    """
    from kbpg.errors import UsageError
    from kbpg.session import read_context
    from kbpg.uri import Kind
    from kbpg.uri import uri as connection_string

    if direct and (pooled or read_only):
        raise UsageError(f"--direct and --{'pooled' if pooled else 'read-only'} exclude each other")
    if read_only:
        kind = Kind.READ_ONLY_POOLED if pooled else Kind.READ_ONLY
    else:
        kind = Kind.DIRECT if direct else Kind.POOLED
    context, _ = read_context(ctx.obj, credentials_exist=show_password)
    inventory, credentials = context.inventory, context.credentials
    _one_of("database", database, inventory.database_names)
    users = {credentials.app_user: "app", credentials.superuser: "superuser"}
    _one_of("role", role, (*users, *inventory.login_roles))
    line = connection_string(
        inventory,
        credentials,
        kind,
        user="superuser" if role == credentials.superuser else "app",
        role=None if role in users else role,
        database=database,
        show_password=show_password,
    )
    if ctx.obj.json:
        import json

        line = json.dumps({"kind": kind.value, "uri": line})
    if show_password and context.former:
        typer.echo("a rotation of passwords is not ended: this password is its new one", err=True)
    echo_exactly(line)


def _one_of(what: str, name: str | None, names: tuple[str, ...]) -> None:
    """Raise UsageError for a name that the inventory does not have."""
    import difflib

    from kbpg.errors import UsageError

    if name is not None and name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        guess = f", did you mean {close[0]}?" if close else ""
        raise UsageError(f"no {what} {name}{guess}", hint=f"{what}s: {', '.join(names)}")


def find_step(which: str) -> Step:
    """Return the step of that number or name; raises UsageError."""
    import difflib

    from kbpg.errors import UsageError
    from kbpg.steps import ALL

    for step in ALL:
        if which == step.name or (which.isdecimal() and int(which) == step.number):
            return step
    close = difflib.get_close_matches(which, [step.name for step in ALL], n=1)
    guess = f", did you mean {close[0]}?" if close else ""
    raise UsageError(f"no step {which}{guess}", hint=f"steps: {', '.join(step.label for step in ALL)}")
