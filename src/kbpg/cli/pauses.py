"""What a killed kbpg left of a pause of PgBouncer: ended, and told of once."""

from __future__ import annotations

from kbpg.console import Console, Line, Style
from kbpg.engine.site import Site
from kbpg.operations.left_pauses import forget


def forget_pauses(site: Site, console: Console) -> None:
    """End every pause that was left on the connected proxies, and say what became of it. Raises `HostError`."""
    for name, lines in forget(site).items():
        console.say([Line(f"{name}: an earlier kbpg did not end a pause of PgBouncer", Style.WARNING)])
        console.say([Line(f"  {line}") for line in lines])
