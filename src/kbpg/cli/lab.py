"""`kbpg lab`: throw-away hosts on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Throw-away hosts on this machine, to try everything on.", no_args_is_help=True)

Directory = Annotated[Path, typer.Option("--dir", help="The lab's directory.", file_okay=False)]
DEFAULT = Path(".lab")


def _progress(line: str) -> None:
    typer.echo(line, err=True)


@app.command()
def up(
    directory: Directory = DEFAULT,
    subnet: Annotated[
        str | None, typer.Option(help="Private /24 for a new lab; by default a free one.", metavar="CIDR")
    ] = None,
) -> None:
    """Start five hosts as containers and write an inventory for them."""
    from kbpg import lab
    from kbpg.lab.layout import parse_subnet

    wanted = parse_subnet(subnet) if subnet else None
    inventory = lab.up(directory, subnet=wanted, report=_progress)
    _progress(f"the lab is up; try: kbpg -i {inventory} apply-all")


@app.command()
def down(directory: Directory = DEFAULT) -> None:
    """Remove the hosts with all their data, and the inventory."""
    from kbpg import lab

    lab.down(directory, report=_progress)
    _progress("the lab is down")


@app.command()
def status(ctx: typer.Context, directory: Directory = DEFAULT) -> None:
    """Say which hosts run, and which base images are stand-ins."""
    import json
    from dataclasses import asdict

    from kbpg import lab

    found = lab.status(directory)
    if ctx.obj.json:
        typer.echo(json.dumps({**asdict(found), "directory": str(found.directory), "up": found.up}, indent=2))
        return
    typer.echo(f"lab {found.directory}: {'up' if found.up else 'not up'}, network {found.subnet or 'absent'}")
    for host in found.hosts:
        typer.echo(f"  {host.name:<14} {host.address:<15} {host.state}")
    typer.echo("base images")
    for image in found.base_images:
        packages = ", ".join(f"{name} {version}" for name, version in sorted(image.packages.items()))
        kind = f"stand-in: {packages}" if image.stand_in else "public" if image.present else "absent"
        typer.echo(f"  {image.tag:<36} {kind}")


@app.command()
def ssh(
    host: Annotated[str, typer.Argument(help="Name of a lab host.", metavar="HOST")],
    command: Annotated[
        list[str] | None, typer.Argument(help="Command to run there.", metavar="-- CMD")
    ] = None,
    directory: Directory = DEFAULT,
) -> None:
    """Log in to a host as root, or run a command there."""
    import os

    from kbpg import lab
    from kbpg.errors import KbpgError
    from kbpg.lab.files import ssh_arguments

    found = lab.running_host(directory, host)
    try:
        os.execvp("ssh", ssh_arguments(directory, found.address, command or []))  # noqa: S606
    except FileNotFoundError as exc:
        raise KbpgError("there is no ssh command on this machine", hint="install an OpenSSH client") from exc
