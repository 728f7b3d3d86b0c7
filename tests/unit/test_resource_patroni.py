"""Patroni's configuration: the patch is right by Patroni's own rules, and what a fix asks for and waits for."""

from __future__ import annotations

import copy
import itertools
import json
import subprocess
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from os import statvfs
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbpg.context import Context
from kbpg.engine.compare import Comparison, compare
from kbpg.engine.site import Site
from kbpg.errors import HostError
from kbpg.facts import Fact, Facts, Knowledge, NotKnown
from kbpg.hosts.fake import FakeHost
from kbpg.hosts.port import Output
from kbpg.model import CLUSTER, Change, Impact, Placed
from kbpg.operations import postgresql_restart
from kbpg.operations.patroni_change import PatroniRefused, change_by_rest
from kbpg.patroni import ConfigFact, NodeFact
from kbpg.resources.bounds import LeaderSettings
from kbpg.resources.hardware import DiskSizeFact, Hardware, HardwareFact, smallest
from kbpg.resources.patroni import (
    DynamicConfig,
    PendingRestart,
    flatten,
    patch,
    wanted_configuration,
)

from .small_cluster import CREDENTIALS, DATABASES, context, knowing, site

CONTEXT = context()
NODE, CONFIG = NodeFact(8008), ConfigFact(8008)
GB = 1 << 30

# --- patch and flatten -------------------------------------------------------------------------------

names = st.sampled_from(["ttl", "postgresql", "parameters", "jit", "pg_stat_statements.max", "ü"])
scalars = (
    st.booleans() | st.integers(-9, 9) | st.sampled_from([0.9, 1.1, "on", "9", "0.9", "True", "", "1GB"])
)
leaves = scalars | st.lists(scalars, max_size=2)
trees = st.recursive(
    st.dictionaries(names, leaves, max_size=4),
    lambda inner: st.dictionaries(names, leaves | inner, max_size=4),
)


def patched(config: dict[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what PATCH /config makes of `config`, by the rules of `patch_config` in patroni/utils.py."""
    for name, value in data.items():
        if value is None:
            config.pop(name, None)
        elif isinstance(value, dict) and isinstance(config.get(name), dict):
            patched(config[name], value)
        elif name not in config or isinstance(value, dict) or str(config[name]) != str(value):
            config[name] = value
    return config


@given(have=trees, want=trees)
def test_a_patch_turns_what_is_into_what_must_be(have: dict[str, Any], want: dict[str, Any]) -> None:
    after = patched(copy.deepcopy(have), patch(have, want))
    assert flatten(after) == flatten(want)
    assert patch(after, want) == {}


@given(have=trees, want=trees)
def test_a_patch_holds_only_what_differs(have: dict[str, Any], want: dict[str, Any]) -> None:
    assert patch(want, want) == {}
    for name, value in patch(have, want).items():
        assert (name not in want) if value is None else (str(have.get(name)) != str(want[name]))


@given(have=trees, want=trees)
def test_no_patch_is_needed_exactly_where_nothing_differs(have: dict[str, Any], want: dict[str, Any]) -> None:
    if not patch(have, want):
        assert flatten(have) == flatten(want)


def test_a_patch_as_it_is_sent() -> None:
    have = {
        "ttl": 30,
        "pause": True,
        "postgresql": {"use_slots": True, "parameters": {"jit": "on", "work_mem": "4MB"}},
    }
    want = {"ttl": 20, "postgresql": {"use_slots": True, "parameters": {"work_mem": "4MB", "a": 1}}}
    assert patch(have, want) == {
        "pause": None,
        "ttl": 20,
        "postgresql": {"parameters": {"jit": None, "a": 1}},
    }


def test_a_value_of_the_same_text_is_the_same() -> None:
    """Patroni would leave it alone, so that it can neither be patched nor must be."""
    assert flatten({"a": {"b": "200", "c": "True"}}) == flatten({"a": {"b": 200, "c": True}})
    assert patch({"a": {"b": "200"}}, {"a": {"b": 200}}) == {}


# --- the configuration -------------------------------------------------------------------------------


def hardware(*memory: int) -> dict[str, dict[str, object]]:
    key = HardwareFact().key
    return {name: {key: Hardware(m, 4)} for name, m in zip(DATABASES, memory, strict=False)}


def test_the_smallest_host_decides() -> None:
    facts = knowing(hardware(64 * GB, 8 * GB, 16 * GB), CLUSTER)
    assert smallest(facts, DATABASES) == Hardware(8 * GB, 4)
    small = wanted_configuration(CONTEXT, facts)
    assert small == wanted_configuration(CONTEXT, knowing(hardware(8 * GB, 8 * GB, 8 * GB), CLUSTER))
    assert small["postgresql"]["parameters"]["shared_buffers"] == "2GB"


def test_the_smallest_disk_limits_wal() -> None:
    found = hardware(64 * GB, 64 * GB, 64 * GB)
    fact = DiskSizeFact(CONTEXT.inventory.cluster.base_dir)
    for name, disk in zip(DATABASES, (1000 * GB, 20 * GB), strict=False):  # db-3 does not tell
        found[name][fact.key] = disk
    parameters = wanted_configuration(CONTEXT, knowing(found, CLUSTER))["postgresql"]["parameters"]
    assert (parameters["max_wal_size"], parameters["max_slot_wal_keep_size"]) == ("2GB", "5GB")


def test_the_size_of_a_file_system_is_that_of_the_nearest_parent(tmp_path: Path) -> None:
    found = statvfs(tmp_path)
    for path in (tmp_path, tmp_path / "not" / "yet there"):
        fact = DiskSizeFact(str(path))
        ran = subprocess.run(["sh", "-c", fact.script], capture_output=True, text=True, check=True)
        assert fact.parse(Output(0, ran.stdout)) == found.f_blocks * found.f_frsize
    assert subprocess.run(["sh", "-c", DiskSizeFact("/nowhere/at/all").script], check=False).returncode == 0


@pytest.mark.parametrize("answer", ["", "0 4096", "stat: odd"])
def test_a_file_system_without_a_size_limits_nothing(answer: str) -> None:
    with pytest.raises((NotKnown, ValueError)):
        DiskSizeFact("/opt").parse(Output(0, answer))


def test_the_inventorys_memory_is_a_limit_and_no_promise() -> None:
    facts = knowing(hardware(8 * GB, 8 * GB, 8 * GB), CLUSTER)
    for memory, buffers in (("4GB", "1GB"), ("64GB", "2GB")):
        limited = context(f"postgresql: {{memory: {memory}}}\n")
        assert wanted_configuration(limited, facts)["postgresql"]["parameters"]["shared_buffers"] == buffers


def status(role: str, pending: bool = False, state: str = "running") -> object:
    return NODE.parse(200, {"state": state, "role": role, "pending_restart": pending})


def answers(config: Mapping[str, Any], leader: str = "db-2") -> dict[str, dict[str, object]]:
    found = hardware(8 * GB, 8 * GB, 8 * GB)
    for name in DATABASES:
        found[name][NODE.key] = status("primary" if name == leader else "replica")
        found[name][CONFIG.key] = config if name == leader else {"stale": True}
    return found


def right() -> dict[str, Any]:
    return wanted_configuration(CONTEXT, knowing(hardware(8 * GB, 8 * GB, 8 * GB), CLUSTER))


# --- a host that --limit leaves out ----------------------------------------------------------------------

LIMITED = replace(CONTEXT, limit=frozenset({"db-2", "db-3"}))


def without_db_1(config: dict[str, Any], limited: Context = LIMITED) -> Comparison:
    """Compare the configuration while db-1, the smallest host, is away."""
    found = answers(config)
    found["db-2"][HardwareFact().key] = found["db-3"][HardwareFact().key] = Hardware(64 * GB, 16)
    del found["db-1"]
    return compare(Placed(CLUSTER, DynamicConfig(limited)), knowing(found, CLUSTER))


def test_what_follows_from_the_hardware_stays_while_a_host_is_away() -> None:
    found = without_db_1(right())
    assert found.change is None
    assert found.lines == (
        "what PostgreSQL's settings owe to the smallest host's memory, cores and disk stays as it is: "
        "db-1 cannot be asked",
    )


def test_what_does_not_follow_from_it_is_changed_all_the_same() -> None:
    config = right()
    config["ttl"] = 30
    config["postgresql"]["parameters"] |= {"jit": "on", "max_parallel_maintenance_workers": 2}
    assert set(without_db_1(config).lines) == {
        "ttl: 30 → 20",
        "postgresql.parameters.jit: on → off",
        "postgresql.parameters.max_parallel_maintenance_workers: 2 → 0",
    }


def test_what_the_inventory_gives_itself_is_no_matter_of_hardware() -> None:
    own = replace(context("postgresql: {parameters: {work_mem: 32MB}}\n"), limit=LIMITED.limit)
    (line,) = without_db_1(right(), own).lines
    assert line.startswith("postgresql.parameters.work_mem: ")
    assert line.endswith("→ 32MB")


def test_a_host_that_the_limit_names_has_to_tell() -> None:
    found = without_db_1(right(), replace(CONTEXT, limit=frozenset({"db-1", "db-2"})))
    assert found.unknown


def drift(change: Callable[[dict[str, Any]], object]) -> Comparison:
    config = right()
    change(config)
    return compare(Placed(CLUSTER, DynamicConfig(CONTEXT)), knowing(answers(config), CLUSTER))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda c: c.update(ttl=60), "ttl: 60 → 20"),
        (lambda c: c.pop("failsafe_mode"), "failsafe_mode: none → False"),
        (
            lambda c: c["postgresql"]["parameters"].update(fsync="off"),
            "postgresql.parameters.fsync: off → none",
        ),
        (lambda c: c["postgresql"].pop("use_slots"), "postgresql.use_slots: none → True"),
    ],
)
def test_every_setting_is_seen_when_it_drifts(change: Callable[[dict[str, Any]], object], line: str) -> None:
    found = drift(change)
    assert found.lines == (line,)
    assert found.impact is Impact.RELOAD


def test_what_operators_set_by_hand_is_theirs() -> None:
    """A pause, and permanent slots, which a consumer's position hangs on, are neither wanted nor removed."""
    assert drift(lambda c: c.update(pause=True, slots={"cdc": {"type": "logical"}})).change is None


@pytest.mark.parametrize(
    ("parameters", "impact"),
    [
        ({"work_mem": "1GB"}, Impact.RELOAD),
        ({"shared_buffers": "1GB"}, Impact.SWITCHOVER),
        ({"max_connections": 10}, Impact.SWITCHOVER),
        ({"max_connections": 9999}, Impact.RESTART),
        ({"max_connections": 9999, "work_mem": "1GB", "shared_buffers": "1GB"}, Impact.RESTART),
        ({"max_locks_per_transaction": 9999}, Impact.RESTART),  # not ours: Patroni's default comes back
    ],
)
def test_a_change_that_needs_restarts_says_so(parameters: dict[str, Any], impact: Impact) -> None:
    config = right()
    config["postgresql"]["parameters"].update(parameters)
    found = answers(config)
    bounds = ("max_connections", "max_locks_per_transaction")
    settings = [("shared_buffers", "131072"), *((name, str(parameters.get(name, 64))) for name in bounds)]
    if "max_connections" not in parameters:
        settings[1] = ("max_connections", str(right()["postgresql"]["parameters"]["max_connections"]))
    found["db-2"][LeaderSettings(CONTEXT).settings.key] = tuple(settings)
    assert compare(Placed(CLUSTER, DynamicConfig(CONTEXT)), knowing(found, CLUSTER)).impact is impact


def test_another_level_of_wal_is_a_restart_of_every_node() -> None:
    """All that decides is that pg_settings calls it a parameter of the postmaster, as PostgreSQL 16 does."""
    wanted = context("postgresql: {parameters: {wal_level: logical}}\n")
    found = answers(right())
    found["db-2"][LeaderSettings(wanted).settings.key] = (("wal_level", "replica"),)
    compared = compare(Placed(CLUSTER, DynamicConfig(wanted)), knowing(found, CLUSTER))
    assert compared.lines == ("postgresql.parameters.wal_level: replica → logical",)
    assert compared.impact is Impact.SWITCHOVER


def test_a_configuration_that_is_right_is_left_alone() -> None:
    assert drift(lambda config: None).change is None
    wanted = right()["postgresql"]["parameters"]["max_connections"]
    as_text = drift(lambda c: c["postgresql"]["parameters"].update(max_connections=str(wanted)))
    assert as_text.change is None


# --- REST --------------------------------------------------------------------------------------------


class Patroni:
    """A REST API on 127.0.0.1 that keeps what it was asked, and answers with a status and a text."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, object, str]] = []
        self.answer: tuple[int, str] = (200, "")
        self.answers: Iterator[tuple[int, str]] = iter(())
        self.raw: bytes | None = None


@pytest.fixture
def patroni() -> Iterator[Patroni]:
    world = Patroni()

    class Api(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            login = b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
            world.asked.append((self.command, self.path, json.loads(body), login))
            if world.raw is not None:
                self.wfile.write(world.raw)
                return
            status, text = next(world.answers, world.answer)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        do_PATCH = do_POST = answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        world.port = server.server_address[1]  # type: ignore[attr-defined]
        yield world
        server.shutdown()
        thread.join()


def world(patroni: Patroni) -> dict[str, FakeHost]:
    services = {("127.0.0.1", 8008): ("127.0.0.1", patroni.port)}  # type: ignore[attr-defined]
    return {name: FakeHost(name, services=services) for name in DATABASES}


LOGIN = f"kbpg:{CREDENTIALS.rest_password.reveal()}"


def test_a_change_is_asked_for_with_the_password(patroni: Patroni) -> None:
    change_by_rest(CONTEXT, world(patroni)["db-1"], "PATCH", "/config", {"ttl": 20})
    assert patroni.asked == [("PATCH", "/config", {"ttl": 20}, LOGIN)]


@pytest.mark.parametrize(
    ("answer", "raw", "why"),
    [
        ((503, "no leader"), None, "db-1: Patroni refused PATCH /config with 503: no leader"),
        ((200, ""), b"SSH-2.0-OpenSSH\r\n\r\n", "db-1: Patroni did not answer PATCH /config: "),
        ((200, ""), b"", "db-1: Patroni did not answer PATCH /config: "),
    ],
)
def test_a_change_that_is_not_made_is_the_hosts_error(
    answer: tuple[int, str], raw: bytes | None, why: str, patroni: Patroni
) -> None:
    patroni.answer, patroni.raw = answer, raw
    with pytest.raises(HostError) as caught:
        change_by_rest(CONTEXT, world(patroni)["db-1"], "PATCH", "/config", {})
    assert caught.value.message.startswith(why)
    assert isinstance(caught.value, PatroniRefused) is ("refused" in why)
    assert CREDENTIALS.rest_password.reveal() not in "".join(caught.value.lines())


def test_a_patroni_that_is_down_is_the_hosts_error() -> None:
    with pytest.raises(HostError, match="db-1: Patroni did not answer POST /reload: "):
        change_by_rest(CONTEXT, FakeHost("db-1"), "POST", "/reload", {})


class Looking:
    """What the nodes tell, look by look: whether PostgreSQL has read its configuration again."""

    def __init__(
        self, knowledge: Mapping[str, Mapping[str, object]], looks: Sequence[Mapping[str, object]]
    ) -> None:
        self._answers, self._looks = knowledge, iter(looks)
        self.knowledge = Knowledge()
        for name, found in knowledge.items():
            self.knowledge.put(name, found)
        self.looked = 0

    def look(self, wanted: Mapping[str, Sequence[Fact[object]]]) -> None:
        self.looked += 1
        loaded = next(self._looks)
        for name, facts in wanted.items():
            for fact in facts:
                if fact != NODE:
                    self.knowledge.put(name, {fact.key: loaded[name]})

    def site(self, place: str, hosts: Mapping[str, FakeHost]) -> Site:
        plain = site(place, hosts)
        return Site(
            place,
            hosts,
            plain.controller,
            CONTEXT,
            Facts(self.knowledge, place),
            self.look,
            lambda text: None,
        )


def fixed(patroni: Patroni, config: dict[str, Any], looks: Sequence[Mapping[str, object]]) -> Looking:
    resource = DynamicConfig(CONTEXT)
    looking = Looking(answers(config), looks)
    there = looking.site(CLUSTER, world(patroni))
    change = Change(resource.have(there.facts), resource.want(there.facts))
    resource.fix(there, change)
    return looking


def everywhere(when: str, pending: bool = False) -> dict[str, object]:
    return dict.fromkeys(DATABASES, ((when, pending),))


def test_a_setting_of_patronis_is_sent_and_not_waited_for(patroni: Patroni) -> None:
    looking = fixed(patroni, {**right(), "ttl": 60}, [everywhere("12:00")])
    assert patroni.asked == [("PATCH", "/config", {"ttl": 20}, LOGIN)]
    assert looking.looked == 1


def test_a_parameter_is_waited_for_until_every_node_has_read_it(
    patroni: Patroni, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kbpg.operations.postgresql_restart.INTERVAL", 0.0)
    config = right()
    config["postgresql"]["parameters"]["work_mem"] = "1GB"
    one_late = {**everywhere("12:01"), "db-3": (("12:00", False),)}
    silent = {**everywhere("12:01"), "db-3": ()}
    # Patroni does not say yet that a restart is pending there
    undecided = {**everywhere("12:01"), "db-3": (("12:01", True),)}
    looks = [everywhere("12:00"), everywhere("12:00"), one_late, silent, undecided, everywhere("12:01")]
    looking = fixed(patroni, config, looks)
    assert looking.looked == len(looks)
    wanted = right()["postgresql"]["parameters"]["work_mem"]
    assert wanted != "1GB"
    assert patroni.asked == [
        ("PATCH", "/config", {"postgresql": {"parameters": {"work_mem": wanted}}}, LOGIN)
    ]


def test_the_end_of_the_wait_is_no_error(patroni: Patroni, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that only reads differently causes no reload: the comparison that follows decides."""
    monkeypatch.setattr("kbpg.operations.postgresql_restart.INTERVAL", 0.0)
    monkeypatch.setattr(
        "kbpg.resources.patroni.RELOAD_MARGIN", -2.0 * CONTEXT.inventory.timers.loop_wait + 0.05
    )
    config = right()
    config["postgresql"]["parameters"]["work_mem"] = "1GB"
    looking = fixed(patroni, config, itertools.repeat(everywhere("12:00")))  # type: ignore[arg-type]
    assert looking.looked > 1


# --- restarts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "pending", "impact"),
    [("replica", False, None), ("replica", True, Impact.RESTART), ("primary", True, Impact.SWITCHOVER)],
)
def test_a_pending_restart_and_what_it_means(role: str, pending: bool, impact: Impact | None) -> None:
    facts = knowing({"db-1": {NODE.key: status(role, pending)}}, "db-1")
    found = compare(Placed("db-1", PendingRestart(CONTEXT)), facts)
    assert (found.impact if found.change else None) is impact


def test_a_node_that_does_not_answer_is_unknown() -> None:
    assert compare(Placed("db-1", PendingRestart(CONTEXT)), knowing({}, "db-1")).unknown


def test_a_restart_is_asked_of_the_node_itself(patroni: Patroni) -> None:
    there = site("db-3", world(patroni))
    PendingRestart(CONTEXT).fix(there, Change({"pending restart": True}, {"pending restart": False}))
    assert patroni.asked == [("POST", "/restart", {}, LOGIN)]


def leading(setting: str, pending: bool = True) -> dict[str, dict[str, object]]:
    """Return a cluster whose leader, db-2, runs with this max_connections where 200 is configured."""
    found = answers({"postgresql": {"parameters": {"max_connections": 200}}})
    found["db-2"][NODE.key] = status("primary", pending)
    found["db-2"][LeaderSettings(CONTEXT).settings.key] = (("max_connections", setting),)
    found["db-1"][NODE.key] = status("replica", pending)
    return found


@pytest.mark.parametrize(
    ("place", "setting", "impact"),
    [
        ("db-2", "100", Impact.SWITCHOVER),
        ("db-2", "200", Impact.SWITCHOVER),
        ("db-2", "250", Impact.RESTART),
        ("db-1", "250", Impact.RESTART),
    ],
)
def test_a_leader_whose_bounds_shrink_is_restarted_in_place(place: str, setting: str, impact: Impact) -> None:
    found = compare(Placed(place, PendingRestart(CONTEXT)), knowing(leading(setting), place))
    assert found.impact is impact
    said = (
        "the leader is restarted in place, and clients of PgBouncer wait meanwhile: max_connections shrinks"
    )
    assert (said in found.lines) is (place == "db-2" and setting == "250")


def test_a_leader_has_time_to_start_before_it_is_failed_over(
    patroni: Patroni, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(postgresql_restart, "checkpoint", lambda site, leader: written.append(leader))
    there = site("db-2", world(patroni), leading("250"))
    PendingRestart(CONTEXT).fix(there, Change({"pending restart": True}, {"pending restart": False}))
    assert patroni.asked == [("POST", "/restart", {"timeout": 90}, LOGIN)]
    assert written == ["db-2"]


def test_a_node_that_a_switchover_has_restarted_is_left_alone(patroni: Patroni) -> None:
    there = site("db-2", world(patroni), leading("200", pending=False))
    PendingRestart(CONTEXT).fix(there, Change({"pending restart": True}, {"pending restart": False}))
    assert patroni.asked == []


def test_a_patroni_that_is_busy_is_asked_again(patroni: Patroni, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kbpg.operations.postgresql_restart.INTERVAL", 0.0)
    patroni.answers = iter(
        [(503, "demote already in progress"), (503, "follow already in progress"), (200, "")]
    )
    PendingRestart(CONTEXT).fix(site("db-3", world(patroni)), Change({"pending restart": True}, {}))
    assert len(patroni.asked) == 3


@pytest.mark.parametrize(
    ("text", "deadline"), [("demote already in progress", 0.5), ("postgres is still starting", 120.0)]
)
def test_a_restart_that_is_refused_is_said(
    text: str, deadline: float, patroni: Patroni, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kbpg.operations.postgresql_restart.INTERVAL", 0.0)
    monkeypatch.setattr("kbpg.operations.postgresql_restart.RETURN_DEADLINE", deadline)
    patroni.answers = itertools.repeat((503, text))
    with pytest.raises(HostError, match=f"Patroni refused POST /restart with 503: {text}"):
        PendingRestart(CONTEXT).fix(site("db-3", world(patroni)), Change({"pending restart": True}, {}))


@pytest.mark.parametrize(
    ("place", "setting", "advised"), [("db-1", "250", True), ("db-2", "250", False), ("db-1", "100", False)]
)
def test_a_replica_that_waits_for_its_leader_says_so(place: str, setting: str, advised: bool) -> None:
    said = PendingRestart(CONTEXT).advice(knowing(leading(setting), place))
    why = "max_connections shrinks, and a replica keeps the leader's until that was restarted"
    assert said == (f"{why}: run it without --limit" if advised else None)
