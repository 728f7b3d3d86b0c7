"""What is left of a pause that kbpg could not end itself: found, told of, ended and forgotten."""

from __future__ import annotations

from kbpg.engine.site import Site
from kbpg.layout import PGBOUNCER
from kbpg.operations.pause_guard import left_behind, note_fact, note_path
from kbpg.resources.docker import signalled


def forget(site: Site) -> dict[str, tuple[str, ...]]:
    """End what may still be paused on the connected proxies, and return the notes' lines, by proxy.

    No guard is at work any more where the lock is held. Raises `HostError`.
    """
    fact = note_fact(site.context)
    names = [name for name in site.context.proxy_names if name in site.hosts]
    facts = site.look(dict.fromkeys(names, (fact,)))
    texts = {name: (found.text if (found := facts.known(fact, name)) else None) for name in names}
    left = left_behind(texts)
    for name, note in left.items():
        end(site, name, resume=not note.ended)
    return {name: note.lines for name, note in left.items()}


def end(site: Site, name: str, *, resume: bool) -> None:
    """Forget the note on a proxy; with `resume` its PgBouncer is told to go on first. Raises `HostError`."""
    if resume:
        site.hosts[name].run(signalled(PGBOUNCER, "USR2"), check=False)
    site.hosts[name].run(["rm", "-f", note_path(site.context)])
