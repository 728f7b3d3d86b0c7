"""With no timers that the inventory takes the watchdog ends a leader that is well: its real class, simulated time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from kbpg.inventory import parse, rules
from kbpg.inventory.cluster import Timers

from .test_watchdog import module

watchdog = module()

EMPTY = parse(
    """
cluster: {name: test}
db: [{name: a, address: 192.0.2.1}, {name: b, address: 192.0.2.2}, {name: c, address: 192.0.2.3}]
proxies: [{name: p, address: 192.0.2.11}]
""",
    "inventory.yaml",
)
ROUNDS = 3
"""Rounds of Patroni that are watched."""
LATE = watchdog.MARGIN - watchdog.TIMEOUT
"""Seconds that a round may be seen late, beside a question that is lost: what the margin leaves."""
EVERY = watchdog.INTERVAL + watchdog.GLANCE
"""Seconds from an answer to the next question, at most."""
PHASES = [tenth / 10 for tenth in range(12)]
"""Seconds between Patroni's first round and the watchdog's first question: all of an interval and a glance."""


class Leader:
    """Patroni on a leader that is well: a round every `loop_wait`, the last one `late`; it is its own clock.

    With `lossy`, the last question before the last round gets no answer.
    """

    def __init__(self, ttl: int, loop_wait: int, late: float = 0.0, *, lossy: bool = False) -> None:
        self.ttl, self.loop_wait, self.late, self.lossy = ttl, loop_wait, late, lossy
        self.now = 1000.0
        self.started = self.now

    @property
    def ends(self) -> float:
        """Return when the last round is over."""
        return self.started + ROUNDS * self.loop_wait + self.late + watchdog.TIMEOUT

    def rounds(self, now: float) -> int:
        """Return how many rounds there were."""
        due = self.started + ROUNDS * self.loop_wait
        done = min(ROUNDS - 1, math.floor((now - self.started) / self.loop_wait))
        return done + (now >= due + self.late)

    def ask(self, path: str) -> dict[str, Any]:
        """Answer as Patroni's REST API does."""
        if path == "/config":
            return {"ttl": self.ttl, "loop_wait": self.loop_wait}
        seen = self.rounds(self.now)
        if self.lossy and self.rounds(self.now + EVERY) > seen == ROUNDS - 1:
            self.now += watchdog.TIMEOUT
            raise TimeoutError
        return {"role": "primary", "dcs_last_seen": int(self.started) + seen * self.loop_wait}

    def monotonic(self) -> float:
        """Return the time that it is."""
        return self.now


def kills(leader: Leader, monkeypatch: pytest.MonkeyPatch, phase: float = 0.0) -> bool:
    """Return whether the watchdog ends it. It asks as in `watch`, `EVERY` seconds."""
    monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=leader.monotonic))
    leader.now += phase
    silence = watchdog.Silence(leader)
    while leader.now < leader.ends:
        if silence.look() > 0:
            return True
        assert silence._armed
        leader.now += EVERY
    return False


def refused(ttl: int, loop_wait: int) -> bool:
    """Return whether the inventory refuses them, with the shortest `retry_timeout` that there is."""
    timers = Timers(ttl=ttl, loop_wait=loop_wait, retry_timeout=3)
    return any(rules.timers(EMPTY.model_copy(update={"timers": timers})))


def boundaries() -> Iterator[tuple[int, int]]:
    """Yield each `loop_wait` with the shortest `ttl` that the inventory takes with it."""
    for loop_wait in range(1, 601):
        yield (
            next(ttl for ttl in range(max(20, 2 * loop_wait), 3601) if not refused(ttl, loop_wait)),
            loop_wait,
        )


def test_there_is_one_margin() -> None:
    assert rules.WATCHDOG_MARGIN == watchdog.MARGIN
    assert LATE > watchdog.GLANCE


def test_no_accepted_timers_end_a_leader_that_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(boundaries())
    assert found[5:7] == [(20, 6), (22, 7)]
    killed = [pair for pair in found if kills(Leader(*pair, LATE, lossy=True), monkeypatch)]
    assert killed == []


@pytest.mark.parametrize("phase", PHASES)
def test_it_does_not_depend_on_when_it_asks(phase: float, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(max(20, 2 * (loop_wait + rules.WATCHDOG_MARGIN)), loop_wait) for loop_wait in range(1, 31)]
    killed = [pair for pair in pairs if kills(Leader(*pair, LATE, lossy=True), monkeypatch, phase)]
    assert killed == []


@pytest.mark.parametrize("loop_wait", [7, 8, 16, 30, 60])
def test_a_second_less_is_refused_and_would_end_one(loop_wait: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ttl = 2 * (loop_wait + rules.WATCHDOG_MARGIN) - 1
    assert refused(ttl, loop_wait)
    assert not refused(ttl + 1, loop_wait)
    assert any(kills(Leader(ttl, loop_wait, LATE, lossy=True), monkeypatch, phase) for phase in PHASES)


@pytest.mark.parametrize(("ttl", "loop_wait"), [(20, 14), (30, 20), (60, 40)])
def test_timers_that_end_every_leader_are_refused(
    ttl: int, loop_wait: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is late, and no question is lost."""
    assert refused(ttl, loop_wait)
    assert kills(Leader(ttl, loop_wait), monkeypatch)


class Changed:
    """Patroni on a leader whose timers change while it leads; `round` is one of its rounds, `lossy` loses /config."""

    def __init__(self, ttl: int, loop_wait: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.timers, self.now, self.seen, self.lossy = (
            {"ttl": ttl, "loop_wait": loop_wait},
            1000.0,
            1000,
            False,
        )
        monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.silence = watchdog.Silence(self)
        assert self.silence.look() <= 0

    def ask(self, path: str) -> dict[str, Any]:
        """Answer as Patroni's REST API does."""
        if path == "/config" and self.lossy:
            raise TimeoutError
        return self.timers if path == "/config" else {"role": "primary", "dcs_last_seen": self.seen}

    def change(self, ttl: int, loop_wait: int) -> None:
        """Take up other timers, in a round."""
        self.timers = {"ttl": ttl, "loop_wait": loop_wait}
        self.seen += 1
        assert self.silence.look() <= 0

    def overdue(self, seconds: float) -> bool:
        """Return whether it is to be ended after these seconds more without a round."""
        self.now += seconds
        return bool(self.silence.look() > 0)


def test_longer_timers_are_followed_while_it_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    leader = Changed(20, 2, monkeypatch)
    leader.change(60, 20)
    assert not leader.overdue(36)
    assert leader.overdue(0.1)


def test_shorter_timers_are_followed_while_it_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    leader = Changed(60, 10, monkeypatch)
    leader.change(20, 2)
    assert not leader.overdue(14)
    assert leader.overdue(0.1)


def test_a_lost_question_for_the_timers_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    leader = Changed(20, 2, monkeypatch)
    leader.lossy = True
    leader.change(60, 20)
    assert not leader.overdue(1)
    leader.lossy = False
    assert not leader.overdue(35)
    assert leader.overdue(0.1)
