"""`kbpg inventory`: look at the inventory without touching a host."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="Check the inventory, print its schema.")


@app.command()
def check(ctx: typer.Context) -> None:
    """Check the inventory file; no host is contacted."""
    import json

    from kbpg.inventory import load

    inventory = load(ctx.obj.inventory)
    if ctx.obj.json:
        names = {kind: [host.name for host in getattr(inventory, kind)] for kind in ("db", "proxies")}
        document = {"path": str(inventory.path), "cluster": inventory.cluster.name, **names}
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    hosts = _count(len(inventory.db), "db host", "db hosts")
    proxies = _count(len(inventory.proxies), "proxy", "proxies")
    typer.echo(f"{inventory.path}: ok, cluster {inventory.cluster.name}: {hosts}, {proxies}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of the inventory, for editors."""
    import json

    from kbpg.inventory.schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
