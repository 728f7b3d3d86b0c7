"""The superuser's password and pg_rewind's rights, from what PostgreSQL says."""

from __future__ import annotations

import pytest

from kbpg import scram
from kbpg.engine.compare import compare
from kbpg.facts import NotKnown
from kbpg.model import CLUSTER, Placed
from kbpg.patroni import NodeFact, NodeStatus
from kbpg.resources.pause import NotPaused
from kbpg.resources.rewind import FUNCTIONS, RewindRights
from kbpg.resources.superuser import SuperuserAccess
from kbpg.sql import UNLOGGED

from .small_cluster import CREDENTIALS, context, knowing

CONTEXT = context()
NODE = NodeFact(8008)
LEADS = NodeStatus("running", "primary", 1, "4.1.5", "77", False, False, False, ())
REFUSAL = NotKnown('port 5432: password authentication failed for user "kb_admin"')


def seen(resource: SuperuserAccess | RewindRights, answer: object) -> object:
    (fact,) = resource.facts
    return compare(Placed(CLUSTER, resource), knowing({"db-1": {NODE.key: LEADS, fact.key: answer}}, CLUSTER))


@pytest.mark.parametrize(
    ("answer", "lines"),
    [
        ({}, ()),
        (REFUSAL, ("password: refused → accepted",)),
        (NotKnown("port 5432: no answer"), ("not known yet: port 5432: no answer",)),
    ],
)
def test_a_refused_superuser_is_a_difference_and_silence_is_not(
    answer: object, lines: tuple[str, ...]
) -> None:
    assert seen(SuperuserAccess(CONTEXT), answer).lines == lines  # type: ignore[attr-defined]


def test_the_verifier_goes_in_by_standard_input_and_matches() -> None:
    ran: list[tuple[list[str], bytes]] = []

    class Host:
        def run(self, argv: list[str], *, stdin: bytes) -> None:
            ran.append((argv, stdin))

    class Site:
        facts = knowing({"db-1": {NODE.key: LEADS}}, CLUSTER)
        hosts = {"db-1": Host()}  # noqa: RUF012 (a stand-in for one call)

    SuperuserAccess(CONTEXT).fix(Site(), None)  # type: ignore[arg-type]
    ((argv, stdin),) = ran
    *before, statement = stdin.decode().splitlines()
    assert before == [f"SET {name} = '{value}';" for name, value in UNLOGGED.items()]
    assert statement.startswith('ALTER ROLE "kb_admin" WITH LOGIN PASSWORD ')
    assert statement.endswith(
        " VALID UNTIL 'infinity';"
    )  # one that has expired is refused with the same words
    verifier = statement.rpartition("PASSWORD '")[2].partition("'")[0]
    assert scram.matches(verifier, CREDENTIALS.superuser_password)
    assert not [word for word in argv if "SCRAM" in word or CREDENTIALS.superuser_password.reveal() in word]


def test_a_right_that_is_missing_is_seen() -> None:
    everything = (tuple(True for _ in FUNCTIONS),)
    assert seen(RewindRights(CONTEXT, "rewind_user"), everything).change is None  # type: ignore[attr-defined]
    one_less = ((True, True, None, True),)
    found = seen(RewindRights(CONTEXT, "rewind_user"), one_less)
    assert found.lines == ("may execute: 3 → 4",)  # type: ignore[attr-defined]


def test_a_paused_patroni_stops_the_step_before_it_begins() -> None:
    paused = NodeStatus("running", "primary", 1, "4.1.5", "77", False, True, False, ())
    resource = Placed("db-1", NotPaused(CONTEXT))
    assert compare(resource, knowing({"db-1": {NODE.key: paused}}, "db-1")).change is not None
    assert compare(resource, knowing({"db-1": {NODE.key: LEADS}}, "db-1")).change is None
    assert compare(resource, knowing({}, "db-1")).change is None
