"""The engine: state, resource → change → state after; what a failure stops; where and in which order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from jinja2 import UndefinedError

from kbpg.engine.outcome import Outcome, Report, Silent
from kbpg.engine.rollout import AllAtOnce
from kbpg.engine.run import Run
from kbpg.engine.site import Site
from kbpg.errors import CommandFailed, ConnectionLost, HostError, KbpgError, NotConverged, Unreachable
from kbpg.facts import Fact, Facts, LocalFact, NotKnown
from kbpg.hosts.fake import FakeHost
from kbpg.hosts.port import Output
from kbpg.model import (
    CLUSTER,
    CONTROLLER,
    Change,
    Impact,
    Placed,
    Resource,
    Stage,
    Status,
    Step,
    Want,
)

from .small_cluster import (
    DATABASES,
    UNREADABLE,
    CountingHost,
    Value,
    ValueFact,
    context,
    hosts,
    path,
    put,
    run,
    stage,
    step,
)


def statuses(report: Report) -> dict[tuple[str, str], Status]:
    """Return how each resource ended, and make sure that each is told of once."""
    found = {(o.place, o.resource.removeprefix("value:")): o.status for o in report.outcomes}
    assert len(found) == len(report.outcomes)
    return found


def only(report: Report, status: Status) -> Outcome:
    (outcome,) = report.of(status)
    return outcome


def content(host: FakeHost, name: str) -> str | None:
    found = host.files.get(path(name))
    return found.content.decode() if found else None


def doing(*actions: Callable[[Site], object]) -> Callable[[Site, Change], None]:
    def fix(site: Site, change: Change) -> None:
        for action in actions:
            action(site)

    return fix


def write(name: str, value: str, at: str | None = None) -> Callable[[Site], object]:
    return lambda site: site.hosts[at or site.place].write(
        path(name), value.encode(), owner="0:0", mode=0o644
    )


def raising(error: Exception) -> Callable[[Site], object]:
    def action(site: Site) -> None:
        raise error

    return action


# --- one resource ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "status", "fixes"),
    [("new", Status.OK, 0), ("old", Status.CHANGED, 1), (None, Status.CHANGED, 1)],
)
def test_what_differs_is_fixed_once_and_seen_again(before: str | None, status: Status, fixes: int) -> None:
    world = hosts(["db-1"])
    if before is not None:
        put(world["db-1"], a=before)
    value = Value("a")
    report = run(world).apply([step(stage(("db-1", value)))])
    assert statuses(report) == {("db-1", "a"): status}
    assert not report.failed
    assert len(value.places) == fixes
    assert content(world["db-1"], "a") == "new"
    assert world["db-1"].asked("value:a") == 1 + fixes


def test_an_outcome_tells_the_difference_and_the_commands() -> None:
    world = hosts(["db-1"])
    put(world["db-1"], a="old")
    value = Value(
        "a", impact=Impact.RELOAD, fix=doing(lambda s: s.host.run(["rm", "-f", "/x"]), write("a", "new"))
    )
    changed = only(run(world).apply([step(stage(("db-1", value)))]), Status.CHANGED)
    assert changed.lines == ("value: old → new",)
    assert changed.impact is Impact.RELOAD
    assert changed.commands == ("`rm -f /x`, exit 0", "write /opt/a")
    assert changed.title == "db-1 · 01 one · value:a"


def test_a_resource_that_stays_different_is_not_converged_with_its_commands_and_evidence() -> None:
    world = hosts(["db-1"])
    value = Value(
        "a", fix=doing(lambda s: s.host.run(["rm", "-f", "/x"])), evidence=["last lines of the log:"]
    )
    report = run(world).apply([step(stage(("db-1", value)))])
    failed = only(report, Status.FAILED)
    assert isinstance(failed.error, NotConverged)
    assert failed.error.message == "did not converge: create"
    assert failed.error.detail == ("ran `rm -f /x`, exit 0", "last lines of the log:")
    assert value.places == ["db-1"]


def test_what_a_fix_makes_differ_is_fixed_in_the_same_stage() -> None:
    """Without handlers: the file changes, and its marker is found to be old."""
    world = hosts(["db-1"])
    put(world["db-1"], file="old", marker="loaded")
    file = Value("file", fix=doing(write("file", "new"), write("marker", "void")))
    marker = Value("marker", "loaded")
    report = run(world).apply([step(stage(("db-1", marker), ("db-1", file)))])
    assert statuses(report) == {("db-1", "marker"): Status.CHANGED, ("db-1", "file"): Status.CHANGED}
    assert content(world["db-1"], "marker") == "loaded"


def test_two_resources_that_undo_each_other_end_as_not_converged() -> None:
    world = hosts(["db-1"])
    put(world["db-1"], a="old", b="new")
    a = Value("a", fix=doing(write("a", "new"), write("b", "old")))
    b = Value("b", fix=doing(write("b", "new"), write("a", "old")))
    report = run(world).apply([step(stage(("db-1", a), ("db-1", b)))])
    assert (len(a.places), len(b.places)) == (1, 1)
    assert statuses(report) == {("db-1", "a"): Status.FAILED, ("db-1", "b"): Status.CHANGED}
    assert isinstance(only(report, Status.FAILED).error, NotConverged)


# --- unknown states ----------------------------------------------------------------------------------


def test_a_state_that_stays_unknown_fails_without_a_fix() -> None:
    world = hosts(["db-1"])
    put(world["db-1"], a=UNREADABLE.decode())
    value = Value("a")
    failed = only(run(world).apply([step(stage(("db-1", value)))]), Status.FAILED)
    assert failed.error is not None
    assert failed.error.message == "could not be read: not known yet: waits for something"
    assert value.places == []
    assert world["db-1"].journal == []


def test_a_state_that_another_fix_makes_known_is_then_fixed() -> None:
    world = hosts(["db-1"])
    put(world["db-1"], late=UNREADABLE.decode())
    late = Value("late")
    early = Value("early", fix=doing(write("early", "new"), write("late", "old")))
    report = run(world).apply([step(stage(("db-1", late), ("db-1", early)))])
    assert set(statuses(report).values()) == {Status.CHANGED}
    assert content(world["db-1"], "late") == "new"


def test_a_resource_that_waits_is_fixed_while_unknown() -> None:
    world = hosts(["db-1"])
    put(world["db-1"], a=UNREADABLE.decode())
    report = run(world).apply([step(stage(("db-1", Value("a", waits=True))))])
    assert statuses(report) == {("db-1", "a"): Status.CHANGED}


def test_a_host_that_is_not_connected_is_unknown() -> None:
    report = run(hosts(["db-1"])).apply([step(stage(("db-2", Value("a"))))])
    error = only(report, Status.FAILED).error
    assert error is not None
    assert error.message == "could not be read: not known yet: db-2 is not connected"


# --- failures ----------------------------------------------------------------------------------------


def test_a_failure_on_one_host_lets_the_others_finish_the_stage_then_stops() -> None:
    world = hosts()
    bad = Value("bad", fix=doing(raising(CommandFailed("db-2", "mkfs", 3, "no space left"))))
    first = stage(
        *(("db-1", Value("a")), ("db-1", Value("b"))),
        *(("db-2", Value("a")), ("db-2", bad), ("db-2", Value("c"))),
        *(("db-3", Value("a")),),
    )
    later = stage(("db-1", Value("later")), ("px-1", Value("later")))
    report = run(world).apply([step(first, later), step(stage((CLUSTER, Value("x"))), number=2, name="two")])
    assert statuses(report) == {
        ("db-1", "a"): Status.CHANGED,
        ("db-1", "b"): Status.CHANGED,
        ("db-2", "a"): Status.CHANGED,
        ("db-2", "bad"): Status.FAILED,
        ("db-2", "c"): Status.NOT_ATTEMPTED,
        ("db-3", "a"): Status.CHANGED,
        ("db-1", "later"): Status.NOT_ATTEMPTED,
        ("px-1", "later"): Status.NOT_ATTEMPTED,
        (CLUSTER, "x"): Status.NOT_ATTEMPTED,
    }
    why = {o.resource: o.lines for o in report.of(Status.NOT_ATTEMPTED)}
    assert why["value:c"] == ("value:bad failed before it",)
    assert why["value:later"] == why["value:x"] == ("01 one failed at db-2",)


def test_what_waits_for_a_failed_fix_is_not_attempted() -> None:
    world = hosts(["db-1", "db-2"])
    put(world["db-1"], late=UNREADABLE.decode(), fine="new")
    late, fine = Value("late"), Value("fine")
    bad = Value("bad", fix=doing(raising(KbpgError("broke"))))
    report = run(world).apply([step(stage(("db-1", bad), ("db-1", late), ("db-1", fine)))])
    assert statuses(report) == {
        ("db-1", "bad"): Status.FAILED,
        ("db-1", "late"): Status.NOT_ATTEMPTED,
        ("db-1", "fine"): Status.OK,
    }


def test_what_a_fix_made_differ_is_told_when_another_host_stops_the_run() -> None:
    """The file of db-2 is new, and its reload was never attempted: it is not said to be fine."""
    world = hosts(["db-1", "db-2"])
    put(world["db-2"], file="old", marker="loaded")
    bad = Value("file", fix=doing(raising(KbpgError("broke"))))
    file = Value("file", fix=doing(write("file", "new"), write("marker", "void")))
    marker = Value("marker", "loaded")
    report = run(world).apply([step(stage(("db-1", bad), ("db-2", file), ("db-2", marker)))])
    assert statuses(report) == {
        ("db-1", "file"): Status.FAILED,
        ("db-2", "file"): Status.CHANGED,
        ("db-2", "marker"): Status.NOT_ATTEMPTED,
    }
    assert marker.places == []
    assert only(report, Status.NOT_ATTEMPTED).lines == ("value: void → loaded",)


def test_what_was_never_attempted_does_not_count_as_not_converged() -> None:
    """One stays different after its fix; what differs or is unknown only since then had no chance."""
    world = hosts(["db-1"])
    put(world["db-1"], late=UNREADABLE.decode(), marker="loaded")
    bad = Value("bad", fix=doing(write("marker", "void")))
    items = [("db-1", bad), ("db-1", Value("marker", "loaded")), ("db-1", Value("late"))]
    report = run(world).apply([step(stage(*items))])
    assert statuses(report) == {
        ("db-1", "bad"): Status.FAILED,
        ("db-1", "marker"): Status.NOT_ATTEMPTED,
        ("db-1", "late"): Status.NOT_ATTEMPTED,
    }


def test_evidence_goes_with_a_failed_fix_but_not_when_the_host_is_lost() -> None:
    for error, detail in [
        (KbpgError("broke", detail=["why"]), ("why", "its log")),
        (Unreachable("db-1", "timed out"), ()),
    ]:
        bad = Value("bad", fix=doing(raising(error)), evidence=["its log"])
        failed = only(run(hosts(["db-1"])).apply([step(stage(("db-1", bad)))]), Status.FAILED)
        assert failed.error is error
        assert failed.error.detail == detail


@pytest.mark.parametrize("place", ["db-1", "db-2"])
def test_what_fails_because_its_connection_has_ended_is_told_as_that(place: str) -> None:
    """A service that is asked through the connection seems to close in the middle of its answer."""
    world = hosts(["db-1", "db-2"])
    world["db-1"].ended = ConnectionLost("db-1", "the SSH connection was lost")
    bad = Value("bad", fix=doing(raising(HostError("db-1", "Patroni did not answer"))))
    failed = only(run(world).apply([step(stage((place, bad)))]), Status.FAILED)
    assert failed.error is world["db-1"].ended
    assert failed.error.lines() == ["db-1: the SSH connection was lost", "  Patroni did not answer"]


class Mute(Value):
    """A resource whose evidence cannot be had."""

    def evidence(self, site: Site) -> list[str]:
        raise Unreachable("db-1", "the connection is lost")


@pytest.mark.parametrize(
    "fix", [doing(raising(KbpgError("broke"))), doing()], ids=["fails", "changes nothing"]
)
def test_evidence_that_cannot_be_had_does_not_hide_the_failure(fix: Callable[[Site, Change], None]) -> None:
    world = hosts(["db-1", "db-2"])
    report = run(world).apply([step(stage(("db-1", Mute("bad", fix=fix)), ("db-2", Value("good"))))])
    error = only(report, Status.FAILED).error
    assert error is not None
    assert error.message in ("broke", "did not converge: create")
    assert error.detail[-1] == "nothing more can be told: db-1: the connection is lost"
    assert statuses(report)["db-2", "good"] is Status.CHANGED


UNEXPECTED = [
    ValueError("a value holds a character that a Dockerfile cannot hold"),
    UndefinedError("'x' is undefined"),
    OSError(28, "No space left on device"),
    NotKnown("waits for a leader"),
    AssertionError(),
]


@pytest.mark.parametrize("error", UNEXPECTED, ids=lambda error: type(error).__name__)
def test_an_unexpected_exception_in_a_fix_costs_no_other_outcome(error: Exception) -> None:
    world = hosts()
    bad = Value("bad", fix=doing(raising(error)))
    first = stage(("db-1", Value("early")))
    second = stage(("db-1", bad), ("db-1", Value("after")), ("db-2", Value("good")))
    report = run(world).apply([step(first, second, stage(("px-1", Value("later"))))])
    assert statuses(report) == {
        ("db-1", "early"): Status.CHANGED,
        ("db-1", "bad"): Status.FAILED,
        ("db-1", "after"): Status.NOT_ATTEMPTED,
        ("db-2", "good"): Status.CHANGED,
        ("px-1", "later"): Status.NOT_ATTEMPTED,
    }
    shown = only(report, Status.FAILED).error
    assert shown is not None
    assert str(error) in shown.message
    assert shown.__cause__ is error
    if not isinstance(error, NotKnown):
        assert any(line.startswith("test_engine_run.py:") for line in shown.detail)
        assert (shown.hint is None) == isinstance(error, OSError)


class Broken(Value):
    """A resource with a defect in one of its pure methods."""

    def __init__(self, where: str) -> None:
        super().__init__("broken")
        self._where = where

    def _break(self, where: str) -> None:
        if self._where == where:
            raise KeyError(where)

    def want(self, facts: Facts) -> Want:
        self._break("want")
        return super().want(facts)

    def have(self, facts: Facts) -> Want:
        self._break("have")
        return super().have(facts)

    def impact(self, change: Change, facts: Facts) -> Impact:
        self._break("impact")
        return super().impact(change, facts)

    def diff(self, change: Change, facts: Facts) -> list[str]:
        self._break("diff")
        return super().diff(change, facts)


@pytest.mark.parametrize("where", ["want", "have", "impact", "diff"])
def test_a_resource_with_a_defect_is_unknown_and_the_others_are_told(where: str) -> None:
    def steps() -> list[Step]:
        return [step(stage(("db-1", Value("good"))), stage(("db-1", Broken(where)), ("db-2", Value("good"))))]

    planned = run(hosts()).plan(steps())
    assert statuses(planned)["db-1", "broken"] is Status.UNKNOWN
    assert statuses(planned)["db-2", "good"] is Status.DIFFERS
    report = run(hosts()).apply(steps())
    assert statuses(report) == {
        ("db-1", "good"): Status.CHANGED,
        ("db-1", "broken"): Status.FAILED,
        ("db-2", "good"): Status.CHANGED,
    }
    error = only(report, Status.FAILED).error
    assert error is not None
    assert error.message.startswith(f"could not be read: not known yet: unexpected KeyError: '{where}'; ")
    assert f"in {where}" in error.message


# --- requirements, limit, places ---------------------------------------------------------------------


def test_requirements_of_all_steps_are_compared_before_anything_changes() -> None:
    world = hosts()
    put(world["db-2"], fit="no")
    put(world["db-1"], fit="yes")
    fit = [stage((name, Value("fit", "yes")), requirement=True) for name in ("db-1", "db-2")]
    change = Value("a")
    report = run(world).apply(
        [step(fit[0], stage(("db-1", change))), step(fit[1], stage(("px-1", change)), number=2, name="two")]
    )
    assert statuses(report) == {
        ("db-1", "fit"): Status.OK,
        ("db-2", "fit"): Status.FAILED,
        ("db-1", "a"): Status.NOT_ATTEMPTED,
        ("px-1", "a"): Status.NOT_ATTEMPTED,
    }
    assert all(host.journal == [] for host in world.values())


def test_a_requirement_that_cannot_be_read_is_not_met() -> None:
    world = hosts()
    put(world["db-1"], fit=UNREADABLE.decode())
    required = stage(("db-1", Value("fit", "yes")), requirement=True)
    report = run(world).apply([step(required, stage(("db-1", Value("a"))))])
    assert statuses(report) == {("db-1", "fit"): Status.FAILED, ("db-1", "a"): Status.NOT_ATTEMPTED}
    planned = run(world).plan([step(required)])
    assert statuses(planned) == {("db-1", "fit"): Status.FAILED}


def test_requirements_that_connected_hosts_do_not_meet_are_told_without_the_others() -> None:
    world = hosts(DATABASES[:2])
    put(world["db-1"], fit="no")
    put(world["db-2"], fit="yes", far="yes")
    far = Value("far", "yes")
    far.asks = lambda place, context: [("db-3", far.fact)]  # type: ignore[method-assign]
    far.have = lambda facts: {"value": facts.get(far.fact, "db-3") or ""}  # type: ignore[method-assign]
    required = stage(*((name, Value("fit", "yes")) for name in DATABASES), ("db-2", far), requirement=True)
    found = run(world).unmet([step(required, stage(("db-1", Value("a"))))])
    assert [(o.place, o.resource, o.status) for o in found] == [("db-1", "value:fit", Status.FAILED)]
    assert found[0].lines == ("value: no → yes",)
    assert [world["db-1"].asked("value:a"), world["db-1"].asked("value:fit")] == [0, 1]
    assert all(host.journal == [] for host in world.values())
    assert run(world, limit=["db-2"]).unmet([step(required)]) == []


def test_the_requirements_of_the_steps_before_hold_too_and_nothing_else_of_them() -> None:
    world = hosts()
    before = step(
        stage(("db-1", Value("fit", "yes")), requirement=True),
        stage(("db-1", Value("other"))),
        number=0,
        name="zero",
    )
    report = run(world).apply([step(stage(("db-1", Value("a"))))], after=[before])
    assert statuses(report) == {("db-1", "fit"): Status.FAILED, ("db-1", "a"): Status.NOT_ATTEMPTED}
    put(world["db-1"], fit="yes")
    report = run(world).apply([step(stage(("db-1", Value("a"))))], after=[before])
    assert statuses(report) == {("db-1", "fit"): Status.OK, ("db-1", "a"): Status.CHANGED}


def test_limit_leaves_out_other_hosts_but_never_the_cluster_or_the_controller() -> None:
    world = hosts(DATABASES)
    cluster = Value("c", fix=doing(*(write("c", "new", name) for name in DATABASES)))
    cluster.have = lambda facts: {"value": facts.get(cluster.fact, "db-1") or ""}  # type: ignore[method-assign]
    everywhere = [(name, Value("a")) for name in DATABASES]
    report = run(world, limit=["db-2"]).apply(
        [step(stage(*everywhere, (CLUSTER, cluster), (CONTROLLER, Here())))]
    )
    assert statuses(report) == {
        ("db-2", "a"): Status.CHANGED,
        (CLUSTER, "c"): Status.CHANGED,
        (CONTROLLER, "here"): Status.CHANGED,
    }
    assert content(world["db-1"], "a") is None


def test_limit_does_not_limit_an_unlimited_stage() -> None:
    items = tuple(Placed(name, Value("fit", "yes")) for name in DATABASES)
    required = Stage("safe", items, requirement=True, unlimited=True)
    report = run(hosts(), limit=["db-2"]).apply([step(required)])
    assert [outcome.place for outcome in report.outcomes] == list(DATABASES)


@dataclass(frozen=True)
class HereFact(LocalFact[int]):
    """A counter of the controller's."""

    counter: list[int]

    @property
    def key(self) -> str:
        return "here"

    def read(self) -> int:
        return len(self.counter)


class Here(Resource):
    """Something on the controller: done once."""

    id = "here"

    def __init__(self) -> None:
        self.done: list[int] = []
        self.fact = HereFact(self.done)
        self.facts = (self.fact,)

    def want(self, facts: Facts) -> Want:
        return {"done": 1}

    def have(self, facts: Facts) -> Want:
        return {"done": facts.get(self.fact)}

    def fix(self, site: Site, change: Change) -> None:
        assert site.controller.name == "controller"
        self.done.append(1)


def test_the_controller_is_read_again_after_a_fix_there() -> None:
    here = Here()
    assert statuses(run({}).apply([step(stage((CONTROLLER, here)))])) == {
        (CONTROLLER, "here"): Status.CHANGED
    }
    assert here.done == [1]


class OnFirst(Value):
    """Something of the cluster's that shows on the first db host."""

    def have(self, facts: Facts) -> Want:
        return {"value": facts.get(self.fact, "db-1") or "none"}

    def fix(self, site: Site, change: Change) -> None:
        self.places.append(site.place)
        write(self.name, self.wanted, "db-1")(site)


def test_the_cluster_is_asked_on_every_db_host_and_on_no_proxy() -> None:
    world = hosts()
    resource = OnFirst("c")
    report = run(world).apply([step(stage((CLUSTER, resource)))])
    assert statuses(report) == {(CLUSTER, "c"): Status.CHANGED}
    assert resource.places == [CLUSTER]
    assert {name: host.asked("value:c") for name, host in world.items()} == {
        **dict.fromkeys(DATABASES, 2),
        "px-1": 0,
        "px-2": 0,
    }


# --- what is asked again -----------------------------------------------------------------------------


def test_a_converged_cluster_is_asked_once_for_all_steps() -> None:
    world = hosts()
    for host in world.values():
        put(host, a="new", b="new")
    steps = [
        step(
            stage(*((name, Value("a")) for name in world)), stage(("db-1", Value("b")), ("db-1", Value("a")))
        ),
        step(stage(*((name, Value("b")) for name in world)), number=2, name="two"),
    ]
    assert {o.status for o in run(world).apply(steps).outcomes} == {Status.OK}
    assert all(len(host.reads) == 1 for host in world.values())


def test_a_fix_makes_its_host_stale_and_no_other() -> None:
    world = hosts(["db-1", "db-2"])
    for host in world.values():
        put(host, a="new", b="new")
    put(world["db-1"], a="old")
    both = [(name, Value("a")) for name in world]
    run(world).apply([step(stage(*both), stage(*((name, Value("b")) for name in world)))])
    assert world["db-1"].asked("value:a") == 2
    assert world["db-1"].asked("value:b") == 2
    assert world["db-2"].reads == [("value:a", "value:b")]


def test_a_live_fact_is_asked_again_after_any_change_anywhere() -> None:
    world = hosts(["db-1", "px-1"])
    put(world["px-1"], live="new", still="new")
    live, still = Value("live", live=True), Value("still")
    run(world).apply([step(stage(("db-1", Value("a"))), stage(("px-1", live), ("px-1", still)))])
    assert world["px-1"].asked("value:live") == 2
    assert world["px-1"].asked("value:still") == 1


def test_what_a_change_made_stale_is_asked_in_one_pass_for_all_stages_without_a_difference() -> None:
    world = hosts(["db-1"])
    put(world["db-1"], a="old", b="new", c="new", d="old", e="new")
    stages = [stage(("db-1", Value(name))) for name in "abcde"]
    run(world).apply([step(*stages[:2]), step(*stages[2:], number=2, name="two")])
    assert world["db-1"].reads == [
        ("value:a", "value:b", "value:c", "value:d", "value:e"),
        ("value:a",),  # fixed, and compared again
        ("value:b", "value:c"),
        ("value:d",),  # differs: nothing is asked beyond it
        ("value:d",),
        ("value:e",),
    ]


class Elsewhere(Value):
    """A resource whose state, and whose fix, is on another host than its place."""

    def __init__(self, name: str, host: str) -> None:
        super().__init__(name, fix=doing(write(name, "new", host)))
        self._host = host

    def asks(self, place: str, context: object) -> list[tuple[str, Fact[object]]]:
        return [(self._host, self.fact)]

    def have(self, facts: Facts) -> Want:
        return {"value": facts.get(self.fact, self._host) or "none"}


def test_what_a_fix_looked_at_elsewhere_is_stale_too() -> None:
    world = hosts(["db-1", "db-2"])
    put(world["db-2"], other="new")
    report = run(world).apply([step(stage((CONTROLLER, Elsewhere("e", "db-2")), ("db-2", Value("other"))))])
    assert statuses(report) == {(CONTROLLER, "e"): Status.CHANGED, ("db-2", "other"): Status.OK}
    assert world["db-2"].asked("value:e") == 2
    assert world["db-2"].asked("value:other") == 1


def test_a_look_during_a_fix_asks_again_what_it_names_and_nothing_else() -> None:
    world = hosts(["db-1", "db-2"])
    put(world["db-2"], seen="1", unseen="1")
    seen, unseen = ValueFact("seen"), ValueFact("unseen")
    looked: list[str | None] = []

    def fix(site: Site, change: Change) -> None:
        put(world["db-2"], seen="2", unseen="2")
        facts = site.look({"db-2": [seen]})
        looked.extend([facts.get(seen, "db-2"), facts.get(unseen, "db-2")])
        write("a", "new")(site)

    others = [("db-2", Value("seen", "1")), ("db-2", Value("unseen", "1"))]
    run(world).apply([step(stage(*others), stage(("db-1", Value("a", fix=fix))))])
    assert looked == ["2", "1"]


# --- plan --------------------------------------------------------------------------------------------


def test_plan_tells_every_difference_and_changes_nothing() -> None:
    world = hosts(["db-1", "db-2"])
    put(world["db-1"], a="old", b="new")
    put(world["db-2"], a=UNREADABLE.decode())
    items = [("db-1", Value("a", impact=Impact.RESTART)), ("db-1", Value("b")), ("db-2", Value("a"))]
    report = run(world).plan([step(stage(*items))])
    assert statuses(report) == {
        ("db-1", "a"): Status.DIFFERS,
        ("db-1", "b"): Status.OK,
        ("db-2", "a"): Status.UNKNOWN,
    }
    assert only(report, Status.DIFFERS).impact is Impact.RESTART
    assert all(host.journal == [] for host in world.values())
    assert all(len(host.reads) == 1 for host in world.values())


# --- rollouts ----------------------------------------------------------------------------------------


@dataclass
class Ordered:
    """A rollout in waves, which writes down what it was asked."""

    order: Sequence[Sequence[str]]
    facts: tuple[Fact[object], ...] = ()
    fails: Mapping[str, Exception] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    impacts: Mapping[str, Impact] = field(default_factory=dict)

    def waves(self, impacts: Mapping[str, Impact], facts: Facts) -> Sequence[Sequence[str]]:
        self.impacts = dict(impacts)
        return [[name for name in wave if name in impacts] for wave in self.order]

    def before(self, site: Site, impact: Impact) -> None:
        self._event(f"before {site.place} {impact}")

    def after(self, site: Site, impact: Impact) -> None:
        self._event(f"after {site.place} {impact}")

    def _event(self, event: str) -> None:
        self.events.append(event)
        if event.rsplit(" ", 1)[0] in self.fails:
            raise self.fails[event.rsplit(" ", 1)[0]]

    def note(self, name: str) -> Callable[[Site], object]:
        return lambda site: self.events.append(f"fix {site.place} {name}")


def rolled(rollout: Ordered, world: dict[str, CountingHost]) -> Report:
    def value(name: str, impact: Impact) -> Value:
        return Value(name, impact=impact, fix=doing(rollout.note(name), write(name, "new")))

    items = tuple(
        Placed(place, value(name, impact))
        for place in DATABASES
        for name, impact in (("a", Impact.RESTART), ("b", Impact.NONE))
    )
    return run(world).apply([step(Stage("nodes", items, rollout))])


def test_a_rollout_goes_wave_by_wave_with_the_worst_impact_of_each_place() -> None:
    world = hosts()
    put(world["db-2"], a="new")
    rollout = Ordered([["db-3"], ["db-1"], ["db-2"]])
    assert not rolled(rollout, world).failed
    assert rollout.impacts == {"db-1": Impact.RESTART, "db-2": Impact.NONE, "db-3": Impact.RESTART}
    assert rollout.events == [
        *("before db-3 restart", "fix db-3 a", "fix db-3 b", "after db-3 restart"),
        *("before db-1 restart", "fix db-1 a", "fix db-1 b", "after db-1 restart"),
        *("before db-2 none", "fix db-2 b", "after db-2 none"),
    ]


@pytest.mark.parametrize("error", [NotConverged("not whole"), RuntimeError("a defect")])
@pytest.mark.parametrize(
    ("where", "first"),
    [
        ("before db-3", {"a": Status.FAILED, "b": Status.NOT_ATTEMPTED}),
        ("after db-3", {"a": Status.CHANGED, "b": Status.FAILED}),
    ],
)
def test_a_gate_that_fails_stops_the_waves_after_it(
    where: str, first: dict[str, Status], error: Exception
) -> None:
    rollout = Ordered([["db-3"], ["db-1", "db-2"]], fails={where: error})
    report = rolled(rollout, hosts())
    assert statuses(report) == {
        **{("db-3", name): status for name, status in first.items()},
        **{(place, name): Status.NOT_ATTEMPTED for place in ("db-1", "db-2") for name in "ab"},
    }
    assert not any("db-1" in event or "db-2" in event for event in rollout.events)
    waiting = {o.lines for o in report.of(Status.NOT_ATTEMPTED) if o.place != "db-3"}
    assert waiting == {("another host failed before",)}


def test_what_a_rollout_looks_at_is_asked_on_every_db_host_first() -> None:
    world = hosts()
    rollout = Ordered([DATABASES], facts=(ValueFact("seen"),))
    rolled(rollout, world)
    assert {name: host.asked("value:seen") for name, host in world.items()} == {
        **dict.fromkeys(DATABASES, 1),
        "px-1": 0,
        "px-2": 0,
    }


def test_all_at_once_is_one_wave() -> None:
    impacts = {"a": Impact.NONE, "b": Impact.RESTART}
    report = run(hosts()).report
    assert AllAtOnce().waves(impacts, Facts(run(hosts()).reading.knowledge, "a")) == [["a", "b"]]
    assert report.outcomes == []


# --- who watches -------------------------------------------------------------------------------------


class Watching(Silent):
    """A listener that writes down what it is told."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def step_started(self, step: Step) -> None:
        self.seen.append(f"step {step.number}")

    def stage_started(self, step: Step, stage: Stage) -> None:
        self.seen.append(f"stage {stage.title}")

    def resource_done(self, outcome: Outcome) -> None:
        self.seen.append(f"{outcome.place} {outcome.status}")

    def step_finished(self, step: Step, seconds: float, outcomes: Sequence[Outcome]) -> None:
        assert seconds >= 0
        self.seen.append(f"end {step.number}, {len(outcomes)}")

    def note(self, place: str, text: str) -> None:
        self.seen.append(f"{place}: {text}")


def test_a_listener_is_told_in_order() -> None:
    watching = Watching()
    world = hosts(["db-1"])
    value = Value("a", fix=doing(lambda site: site.say("sending"), write("a", "new")))
    bad = Value("b", fix=doing(raising(KbpgError("broke"))))
    steps = [
        step(stage(("db-1", value), title="first"), stage(("db-1", bad), title="second")),
        step(stage(("db-1", value), title="third"), number=2, name="two"),
    ]
    report = Run(context(), world, FakeHost("controller"), watching).apply(steps)
    assert watching.seen == [
        *(
            "step 1",
            "stage first",
            "db-1: sending",
            "db-1 changed",
            "stage second",
            "db-1 failed",
            "end 1, 2",
        ),
        *("step 2", "db-1 not attempted", "end 2, 1"),
    ]
    assert set(report.seconds) == {"01 one", "02 two"}


def test_a_recorded_host_is_still_the_host() -> None:
    """What a fix gets reads, writes and streams as the host does, and remembers only what changes something."""
    world = hosts(["db-1"])
    world["db-1"].programs["cat"] = lambda host, argv, stdin: Output(0, "text")
    seen: list[object] = []

    def fix(site: Site, change: Change) -> None:
        host = site.host
        seen.append(host.read([ValueFact("a")])["value:a"].status)
        seen.append(b"".join(host.stream(["cat", "x"])))
        seen.append((host.name, host.address))
        write("a", "new")(site)

    changed = only(run(world).apply([step(stage(("db-1", Value("a", fix=fix))))]), Status.CHANGED)
    assert seen == [44, b"text", ("db-1", "127.0.0.1")]
    assert changed.commands == ("`cat x`", "write /opt/a")
