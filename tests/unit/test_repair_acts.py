"""What a repair says to the services it mends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from kbpg import pooler
from kbpg.engine.site import Site
from kbpg.facts import Fact, Facts, Knowledge
from kbpg.health.finding import Action, Repair
from kbpg.health.questions import Pooler, PoolerFact
from kbpg.health.repair import acts
from kbpg.hosts.fake import FakeHost

from .small_cluster import context


def database(name: str, *, paused: int = 0, disabled: int = 0) -> dict[str, Any]:
    """Return a line of SHOW DATABASES, as far as it is looked at."""
    return {"name": name, "paused": paused, "disabled": disabled}


PAUSED = database("keybuzz", paused=1)


@pytest.mark.parametrize(
    ("state", "databases", "said"),
    [
        ("yes", [database("keybuzz")], ["RESUME"]),
        ("no", [PAUSED, database("other", paused=1)], ['RESUME "keybuzz"', 'RESUME "other"']),
        ("yes", [PAUSED], ["RESUME", 'RESUME "keybuzz"']),
        (
            "no",
            [database("a", disabled=1), database("b", paused=1), database("c", paused=1, disabled=1)],
            ['ENABLE "a"', 'RESUME "b"', 'RESUME "c"', 'ENABLE "c"'],
        ),
        ("no", [database("my-app", paused=1)], ['RESUME "my-app"']),
        ("no", [database('a "b"', disabled=1)], ['ENABLE "a ""b"""']),
        ("no", [database("keybuzz")], []),
    ],
)
def test_every_database_that_pgbouncer_holds_is_let_go(
    monkeypatch: pytest.MonkeyPatch, state: str, databases: list[dict[str, Any]], said: list[str]
) -> None:
    """A word of PgBouncer's console is of letters, digits and underscores, or stands in double quotes (admin.c)."""
    given: list[str] = []
    monkeypatch.setattr(pooler, "command", lambda context, host, text: given.append(text))
    knowledge, here = Knowledge(), context()
    shown = Pooler(databases=tuple(databases), state={"paused": state})

    def look(wanted: Mapping[str, Sequence[Fact[object]]]) -> None:
        knowledge.put("proxy-1", {PoolerFact(pooler.console(here)).key: shown})

    hosts, controller = {"proxy-1": FakeHost("proxy-1")}, FakeHost("controller")
    facts = Facts(knowledge, "cluster")
    site = Site("cluster", hosts, controller, here, facts, look, lambda text: None)
    what = acts.perform(acts.Bench(site, None, ()), Repair(Action.RESUME_POOLER, "proxy-1", "resume"))
    assert given == said
    assert what == f"{', '.join(said) or 'nothing was held any more'} on proxy-1"
