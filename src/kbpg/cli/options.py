"""The options that every command has, before its name and after it."""

from __future__ import annotations

from copy import copy
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import typer

from kbpg.cli.limiting import refuse_limit, takes_limit
from kbpg.options import DEFAULT_INVENTORY, INVENTORY_VARIABLE, Options


def _fill(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> None:
    """Keep what was given; an option that stands at another place of the line must not be undone."""
    if not value or ctx.resilient_parsing:
        return
    options: Options = ctx.obj
    if param.name == "limit":
        names = (name.strip() for part in value for name in part.split(","))
        options.limit |= frozenset(name for name in names if name)
    elif param.name == "no_color":
        options.color = False
    elif param.name == "verbose":
        options.verbose += value
    else:
        setattr(options, str(param.name), value)


def _option(*names: str, text: str, **settings: Any) -> Any:
    return typer.Option(*names, help=text, callback=_fill, expose_value=False, show_default=False, **settings)


def _declared(
    chosen: Annotated[
        Path | None,
        _option(
            "--inventory",
            "-i",
            metavar="PATH",
            text=f"The inventory file.  [env: {INVENTORY_VARIABLE}; default: {DEFAULT_INVENTORY}]",
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        _option("--limit", metavar="HOST[,HOST]", text="Only these hosts; may be repeated."),
    ] = None,
    json: Annotated[bool, _option("--json", text="Print JSON on standard output.")] = False,
    verbose: Annotated[
        int, _option("--verbose", "-v", count=True, text="Show each command run on a host.")
    ] = 0,
    yes: Annotated[bool, _option("--yes", "-y", text="Do not ask before what cannot be undone.")] = False,
    accept_new_host_keys: Annotated[
        bool, _option("--accept-new-host-keys", text="Trust and remember SSH host keys never seen before.")
    ] = False,
    no_color: Annotated[bool, _option("--no-color", text="No colour, even on a terminal.")] = False,
) -> None:
    """Nobody calls this: typer reads the options of its signature."""


def share(command: Any, path: str = "") -> Any:
    """Add the global options to a command, and to all commands below it; return it.

    An option whose name a command already uses for itself is left out there. `path` is the command's name, with
    those of the groups it is in. A command that has no use for `--limit` refuses it, and its help is silent about it.
    """
    taken = {name for param in command.params for name in param.opts}
    shared = [param for param in _parameters() if not taken & set(param.opts)]
    if not takes_limit(path, command):
        shared = [_hidden(param) if param.name == "limit" else param for param in shared]
        if not hasattr(command, "commands"):
            refuse_limit(path, command)
    command.params += shared
    command.format_options = partial(_format_options, command, {param.name for param in shared})
    for name, below in getattr(command, "commands", {}).items():
        share(below, f"{path} {name}".strip())
    return command


@cache
def _parameters() -> list[Any]:
    """Return what typer makes of the options; all commands use the same, as making them takes its time."""
    template = typer.Typer(add_completion=False)
    template.command()(_declared)
    return list(typer.main.get_command(template).params)


def _hidden(param: Any) -> Any:
    """Return the option as one that is understood, and neither in the help nor completed."""
    found = copy(param)
    found.hidden = True
    return found


def _format_options(command: Any, shared: set[str], ctx: Any, formatter: Any) -> None:
    """Write the help's sections: what is the command's own first."""
    sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], "Global options": []}
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is None:
            continue
        if param.param_type_name == "argument":
            # Without the type that typer appends: the name says more than <list[str]>
            sections["Arguments"].append((record[0].partition(" <")[0], record[1]))
        else:
            sections["Global options" if param.name in shared else "Options"].append(record)
    if hasattr(command, "commands"):
        command.format_commands(ctx, formatter)
    for title, records in sections.items():
        if records:
            with formatter.section(title):
                formatter.write_dl(records)
