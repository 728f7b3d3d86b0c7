"""The acceptance list: every check that the one pass answers, on a healthy cluster and on broken ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from kbpg.credentials import generate
from kbpg.errors import Exit, HostError, Unreachable
from kbpg.facts import NotKnown
from kbpg.health.validation.acceptance import Acceptance, Outcome, Verdict, judged
from kbpg.health.validation.aside import NoResult
from kbpg.health.validation.catalogue import ALL
from kbpg.health.validation.run import Validation, examine, validate
from kbpg.health.validation.subject import pooler_config
from kbpg.health.views import views

from .health_world import World
from .validation_world import CONFIG, READ, found, pretended, results, subject, world

CHECKLIST = (
    "3 PostgreSQL nodes configured",
    "leader elected and active",
    "replicas streaming, lag 0",
    "Patroni REST reachable on 8008 on each",
    "Raft quorum 3/3",
    "database keybuzz",
    "extension vector 0.8.1 on primary and replicas",
    "2 HAProxy active",
    "5432 listening",
    "routing to the primary",
    "health checks active",
    "2 PgBouncer active on 6432",
    "SCRAM",
    "pool configured",
    "transaction mode",
    "connection string works with kb_app, direct",
    "connection string works with kb_app, pooled",
    "connection string works with kb_admin, direct",
    "connection string works with kb_admin, pooled",
    "credentials file complete, 0600",
    "write through 6432",
    "write through 5432",
    "what is written is read on every replica",
    "vector query with an HNSW index",
    "wrong password refused",
    "MD5 and plaintext authentication refused",
    "cancel works through either PgBouncer",
    "read-only endpoint 5433 is really read-only",
    "read-only database keybuzz_ro on 6432 is really read-only",
)


def test_the_list_has_every_line_of_the_checklist() -> None:
    words = subject().words
    titles = [check.title.format(**words) for check in ALL]
    assert set(CHECKLIST) <= set(titles)
    assert len({check.id for check in ALL}) == len(ALL)


def test_what_a_check_needs_comes_before_it() -> None:
    seen: set[str] = set()
    for check in ALL:
        assert set(check.needs) <= seen, check.id
        seen.add(check.id)


def test_a_healthy_cluster_passes_with_evidence() -> None:
    found = results()
    assert set(found) == READ
    wrong = {r.id: r.summary for r in found.values() if r.outcome is not Outcome.PASSED}
    assert wrong == {}
    assert all(r.evidence for r in found.values())


Break = Callable[[World], None]


def _config(**values: str) -> Break:
    def change(world: World) -> None:
        world.answers["proxy-2"][pooler_config(world.context).key] = {**CONFIG, **values}

    return change


def _second_leader(world: World) -> None:
    world.change("db-2", world.ask.node, role="primary")


def _stale(world: World) -> None:
    members = world.get("db-3", world.ask.cluster)
    roles = [dataclasses.replace(m, role="leader" if m.name == "db-2" else "replica") for m in members]
    world.say("db-3", world.ask.cluster, tuple(roles))


def _no_replica(world: World) -> None:
    world.say("db-1", world.ask.views.streaming, (("db-2", "streaming", "async", 0),))


def _other_system(world: World) -> None:
    row = world.get("db-3", world.ask.views.node)[0]
    world.say("db-3", world.ask.views.node, ((*row[:2], "1", *row[3:]),))


def _older(world: World) -> None:
    world.say("db-2", world.ask.extensions, (("vector", "0.7.4"),))


def _away(world: World) -> None:
    status = world.get("db-1", world.ask.raft)
    world.change("db-1", world.ask.raft, partners=dict.fromkeys(status.partners, False), has_quorum=False)


def _misrouted(world: World) -> None:
    world.say("proxy-1", world.ask.views.primary, ((True, "192.0.2.2"),))


def _unchecked(world: World) -> None:
    servers = world.get("proxy-1", world.ask.haproxy)
    changed = [
        dataclasses.replace(s, status="no check", check="") if s.name == "db-3" else s for s in servers
    ]
    world.say("proxy-1", world.ask.haproxy, tuple(changed))


def _session_pool(world: World) -> None:
    pool = {"database": "keybuzz", "user": "reports", "pool_mode": "session"}
    world.change("proxy-1", world.ask.pooler, pools=(pool,))


@pytest.mark.parametrize(
    ("fault", "failed", "words"),
    [
        (_second_leader, "leader", "db-1 and db-2 say that they lead"),
        (_stale, "leader", "db-3 thinks that db-2 leads"),
        (_no_replica, "synchronous", "RPO of 0 does not hold"),
        (_other_system, "nodes", "2 different system identifiers"),
        (_older, "extension", "db-2: vector 0.7.4, wanted 0.8.1"),
        (_away, "raft", "db-1 sees no quorum"),
        (_misrouted, "haproxy-route", "proxy-1: leads to db-2, which is a replica"),
        (_unchecked, "haproxy-checks", "db-3 of primary is not checked"),
        (_session_pool, "pgbouncer-mode", "keybuzz/reports is in session mode"),
        (_config(auth_type="md5"), "pgbouncer-scram", "proxy-2: auth_type is md5"),
        (_config(pool_mode="session"), "pgbouncer-mode", "proxy-2: pool_mode is session"),
        (_config(default_pool_size="20"), "pgbouncer-pool", "default_pool_size is 20, wanted 50"),
        (lambda w: w.stop("proxy-1", "haproxy"), "haproxy", "proxy-1: container haproxy is exited"),
        (lambda w: w.stop("proxy-1", "haproxy"), "haproxy-port", "proxy-1: nothing answers there"),
        (lambda w: w.stop("proxy-2", "pgbouncer"), "pgbouncer", "proxy-2: container pgbouncer is exited"),
        (lambda w: w.stop("db-3", "patroni"), "rest", "db-3: nothing answers there"),
        (lambda w: w.change("db-2", w.ask.node, version="3.3.6"), "rest", "Patroni 3.3.6, wanted 4.1.5"),
        (lambda w: w.change("db-1", w.ask.node, paused=True), "rest", "db-1: Patroni is paused"),
        (lambda w: w.off("proxy-1"), "haproxy", "no answer from proxy-1:22"),
    ],
)
def test_a_fault_fails_its_check(fault: Break, failed: str, words: str) -> None:
    broken = world()
    fault(broken)
    result = results(broken)[failed]
    assert result.outcome is Outcome.FAILED
    assert words in "\n".join((result.summary, *result.evidence))


def test_a_replica_that_is_down_is_no_disagreement_about_the_leader() -> None:
    broken = world()
    broken.stop("db-3", "patroni")
    found = results(broken)
    assert found["leader"].outcome is Outcome.PASSED
    assert found["nodes"].outcome is Outcome.FAILED


def test_without_a_leader_what_needs_one_is_skipped() -> None:
    broken = world()
    for name in broken.context.db_names:
        broken.change(name, broken.ask.node, role="replica")
    found = results(broken)
    assert found["leader"].summary == "no node says that it leads"
    assert found["haproxy-route"].outcome is Outcome.SKIPPED
    assert found["haproxy-route"].summary == "needs: leader elected and active"


@pytest.mark.parametrize(
    ("values", "words"),
    [({"mode": 0o644}, "mode is 0644, wanted 0600"), ({"values": {}}, "RAFT_PASS")],
)
def test_a_credentials_file_must_be_complete_and_private(values: dict[str, Any], words: str) -> None:
    result = results(file=found(**values))["credentials"]
    assert result.outcome is Outcome.FAILED
    assert words in result.summary


def test_keys_that_others_may_read_are_told_beside_the_credentials_file() -> None:
    broken = world()
    exposed = {Path("credentials/pki/ca.key"): 0o640}
    pki = dataclasses.replace(broken.context.pki, exposed=exposed)
    broken.context = dataclasses.replace(broken.context, pki=pki)
    result = results(broken)["credentials"]
    assert result.outcome is Outcome.FAILED
    assert "credentials/pki/ca.key: mode 0640: wanted 0600" in result.summary


@pytest.mark.parametrize("method", ["md5", "password", "trust"])
def test_a_weak_rule_is_named(method: str) -> None:
    from kbpg.health.validation.access import strong_only

    broken = world()
    rules = views(broken.context).rules
    broken.say("db-2", rules, (("host", "all", "kb_app", "192.0.2.11", method, ""),))
    verdict = strong_only(subject(broken))
    lines = (verdict.summary, *verdict.evidence)
    assert f"db-2: pg_hba.conf lets kb_app in by {method} from 192.0.2.11" in lines
    assert "db-1: pg_hba_file_rules: 1 scram-sha-256" in lines


def test_a_role_with_another_password_is_named() -> None:
    from kbpg.health.validation.access import strong_only

    broken = world()
    broken.role("kb_app", verifier="md5" + "0" * 32)
    verdict = strong_only(subject(broken))
    assert "role kb_app has no SCRAM password" in (verdict.summary, *verdict.evidence)


# --- going through it -----------------------------------------------------------------------------------


def _check(examine: Callable[[Any], Verdict], ident: str = "one", needs: tuple[str, ...] = ()) -> Acceptance:
    return Acceptance(ident, f"title of {ident}", "group", examine, needs)


def _raising(error: Exception) -> Callable[[Any], Verdict]:
    def examine(_: Any) -> Verdict:
        raise error

    return examine


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NotKnown("Docker does not answer"), "Docker does not answer"),
        (NoResult("not there after 5 s"), "not there after 5 s"),
        (HostError("db-1", "connection lost"), "db-1: connection lost"),
        (psycopg.OperationalError("connection failed: FATAL:  no more"), "no more"),
        (ConnectionRefusedError("nothing answers"), "nothing answers"),
        (KeyError("State"), "an answer it was not written for: KeyError: 'State'"),
    ],
)
def test_an_error_is_a_failure_of_its_check_alone(error: Exception, words: str) -> None:
    passing = _check(lambda _: judged([], "fine", ["line"]), "two")
    first, second = examine(subject(), [_check(_raising(error)), passing])
    assert (first.outcome, first.summary) == (Outcome.FAILED, words)
    assert second.outcome is Outcome.PASSED


def test_a_check_that_needs_a_failed_or_skipped_one_is_skipped() -> None:
    never = _check(_raising(AssertionError("was made")), "two", ("one",))
    third = _check(_raising(AssertionError("was made")), "three", ("two",))
    found = examine(subject(), [_check(_raising(NoResult("no"))), never, third])
    assert [r.outcome for r in found] == [Outcome.FAILED, Outcome.SKIPPED, Outcome.SKIPPED]
    assert found[2].summary == "needs: title of two"


def test_a_secret_in_what_a_check_says_is_masked() -> None:
    whole = subject()
    password = whole.context.credentials.app_password.reveal()
    leaking = _check(lambda _: judged([f"password={password}"], "", [f"as '{password}'"]))
    (result,) = examine(whole, [leaking])
    assert password not in result.summary + "".join(result.evidence)
    assert "***" in result.summary


def test_in_an_unfinished_rotation_the_password_of_before_is_masked_too() -> None:
    former = generate("kb_admin", "kb_app")
    whole = subject()
    whole = dataclasses.replace(whole, context=dataclasses.replace(whole.context, former=former))
    password = former.superuser_password.reveal()
    (result,) = examine(whole, [_check(lambda _: judged([f"password={password}"], "", []))])
    assert result.summary == "password=***"
    assert Validation(whole, (), datetime.now(UTC), 0.0, 0.0).mask(password) == "***"


def test_one_problem_is_said_once_and_several_are_counted() -> None:
    one = judged(["a is wrong"], "fine", ["line"])
    assert (one.summary, one.evidence) == ("a is wrong", ("line",))
    two = judged(["a is wrong", "b is wrong"], "fine", ["line"])
    assert (two.summary, two.evidence) == (
        "a is wrong, and 1 more",
        ("a is wrong", "b is wrong", "line"),
    )


def test_with_every_host_away_it_ends_and_says_so() -> None:
    context = world().context
    lost = {h.name: Unreachable(h.name, "no answer") for h in context.inventory.hosts}
    said: list[str] = []
    found_ = validate(context, found(), {}, lost, said.append)
    assert found_.exit_code is Exit.FAILED
    outcomes = {result.id: result.outcome for result in found_.results}
    assert [ident for ident, outcome in outcomes.items() if outcome is Outcome.PASSED] == ["credentials"]
    assert outcomes["write-pooled"] is Outcome.SKIPPED
    assert said[0] == "reading the hosts"
    assert len(said) == 1 + len(ALL)


def test_what_is_skipped_is_not_passed() -> None:
    whole = pretended()
    assert whole.passed
    assert whole.exit_code is Exit.OK
    skipped = dataclasses.replace(whole.results[0], outcome=Outcome.SKIPPED)
    rest = dataclasses.replace(whole, results=(skipped, *whole.results[1:]))
    assert not rest.passed
    assert rest.exit_code is Exit.FAILED
