"""What `kbpg switchover`, `restart` and `reinit` do and show."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from kbpg.amid import Amid
from kbpg.cli.opening import working, workplace
from kbpg.cli.pauses import forget_pauses
from kbpg.console import Console, Line, Style
from kbpg.engine.site import Site
from kbpg.errors import Exit, Refused, UsageError
from kbpg.inventory import Host, Inventory, load
from kbpg.operations.candidates import candidates, leader
from kbpg.operations.clients_wait import Manner
from kbpg.operations.reinit import reinitialize
from kbpg.operations.rolling_restart import Restarted, restart_nodes
from kbpg.operations.switchover import Handover
from kbpg.operations.switchover import switchover as hand_over
from kbpg.options import Options
from kbpg.session import Session


def switchover(options: Options, to: str, without: Sequence[str], *, cut: bool) -> int:
    """Hand the leadership over, say what was found before and what came of it, and return the exit code."""
    _proxies(load(options.inventory), without)
    with (
        Console(color=options.color, mask=options.masked) as console,
        _opened(options, console, "switchover") as (session, site),
    ):
        _all_proxies(session, without)
        leaving = leader(site)
        console.rest()
        console.say([Line(f"{leaving} leads", Style.TITLE)])
        console.say([Line(f"  {each.text()}") for each in candidates(site, leaving)])
        console.busy("switchover")
        done = hand_over(site, leaving=leaving, to=to, manner=Manner(cut=cut, without=without))
        console.rest()
        if options.json:
            console.data(asdict(done))
        else:
            console.result(_shown(done))
    return int(Exit.FAILED if done.problems else Exit.OK)


def _shown(done: Handover) -> list[Line]:
    longest = max(done.waited.values(), default=0.0)
    waited = f"; clients waited {longest:.1f} s at most" if done.waited else "; no PgBouncer runs"
    first = Line(f"{done.leader} leads, {done.leaving} follows{waited}", Style.GOOD)
    return [first, *_waiting(done.problems)]


def restart(options: Options, hosts: Sequence[str], without: Sequence[str], *, pending: bool) -> int:
    """Restart PostgreSQL on these db hosts, or on all, and return the exit code."""
    inventory = load(options.inventory)
    chosen = _chosen(inventory, hosts, options.limit)
    _proxies(inventory, without)
    with (
        Console(color=options.color, mask=options.masked) as console,
        _opened(options, console, "restart") as (session, site),
    ):
        _all_proxies(session, without)
        started = time.monotonic()
        done = restart_nodes(site, chosen, pending=pending, without=without)
        console.rest()
        seconds = time.monotonic() - started
        if options.json:
            shown = {"restarted": done.hosts, "seconds": round(seconds, 3), "problems": done.problems}
            console.data(shown)
        else:
            console.result(_restarted(done, seconds))
    return int(Exit.FAILED if done.problems else Exit.OK)


def _chosen(inventory: Inventory, hosts: Sequence[str], limit: Collection[str]) -> list[str]:
    """Return the db hosts that --host and --limit both leave; each of them leaves all where it was not given."""
    for name in (*hosts, *sorted(limit)):
        _db_host(inventory, name)
    chosen = [n for n in _names(inventory.db) if n in (hosts or (n,)) and n in (limit or (n,))]
    if not chosen:
        raise UsageError(
            "--host and --limit have no host in common",
            hint="one of them is enough, for restart they mean the same",
        )
    return chosen


def _db_host(inventory: Inventory, name: str) -> None:
    if name not in (names := _names(inventory.db)):
        raise UsageError(f"{name} is no db host", hint=f"db hosts: {', '.join(names)}")


def _proxies(inventory: Inventory, without: Sequence[str]) -> None:
    names = _names(inventory.proxies)
    for name in without:
        if name not in names:
            raise UsageError(f"{name} is no proxy", hint=f"proxies: {', '.join(names)}")


def _names(hosts: Iterable[Host]) -> list[str]:
    return [host.name for host in hosts]


def _restarted(done: Restarted, seconds: float) -> list[Line]:
    first = (
        f"restarted: {', '.join(done.hosts)} ({seconds:.0f} s)"
        if done.hosts
        else "nothing waits for a restart"
    )
    return [Line(first, Style.GOOD), *_waiting(done.problems)]


def _waiting(problems: Mapping[str, str]) -> list[Line]:
    return [Line(f"{name}: {text}", Style.WARNING) for name, text in problems.items()]


def reinit(options: Options, host: str) -> int:
    """Clone a replica anew, after asking, and return the exit code."""
    _db_host(load(options.inventory), host)
    with (
        Console(color=options.color, mask=options.masked) as console,
        _opened(options, console, "reinit", Amid.MEND) as (session, site),
    ):
        if host not in session.hosts:
            raise session.unreachable[host]
        if leader(site) == host:
            raise Refused(
                f"{host} leads, and the leader's data is never replaced",
                hint="if it must be: kbpg switchover first, then kbpg reinit",
            )
        console.rest()
        question = f"replace the data on {host} by a new copy of the leader's?"
        if not options.yes and not (sys.stdin.isatty() and console.ask(question)):
            raise Refused("nothing was changed", hint="--yes goes ahead without asking")
        console.busy(f"reinit {host}")
        said = reinitialize(site, host)
        console.rest()
        if options.json:
            console.data({"host": host, "done": said})
        else:
            console.result([Line(said, Style.GOOD)])
    return int(Exit.OK)


@contextmanager
def _opened(
    options: Options, console: Console, doing: str, amid: Amid = Amid.REFUSE
) -> Iterator[tuple[Session, Site]]:
    """Open everything, hosts that cannot be reached left out, and say what an earlier pause left behind."""
    with working(
        options, console, doing, lock=True, partial=True, credentials_exist=True, amid=amid
    ) as session:
        site = workplace(session, console)
        forget_pauses(site, console)
        yield session, site


def _all_proxies(session: Session, without: Sequence[str]) -> None:
    """Raise `Refused` where a proxy is not connected that the user does not go on without."""
    proxies = session.context.proxy_names
    missing = [name for name in proxies if name not in session.hosts and name not in without]
    if missing:
        raise Refused(
            f"{', '.join(missing)} cannot be reached, so its clients could not be made to wait",
            hint=f"bring it back, or go on: --without {' --without '.join(missing)}",
        )
