"""`config set` below the command line: what KEY=VALUE means, what is refused, the file, the way back."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from kbpg.engine.compare import Comparison
from kbpg.engine.outcome import Outcome, Report
from kbpg.engine.run import Run
from kbpg.errors import InventoryError, NotConverged, UsageError
from kbpg.facts import NotKnown
from kbpg.hosts.port import Output
from kbpg.inventory.assignment import Assignment, assignments
from kbpg.inventory.store import Edit, edit, replace
from kbpg.model import Change, Impact, Placed, Status
from kbpg.operations import config_set
from kbpg.operations.server_settings import (
    FileErrorsFact,
    LibrariesFact,
    ServerSetting,
    SettingsFact,
    Trial,
    TrialFact,
)
from kbpg.patroni import NodeFact
from kbpg.resources.hardware import Hardware, HardwareFact
from kbpg.steps import settings

from .small_cluster import CREDENTIALS, DATABASES, HOSTS, Value, context, hosts, put, run, site, stage, step

CONTEXT = context()
SERVER, NODE = SettingsFact(CONTEXT.superuser()), NodeFact(8008)
GB = 1 << 30

# --- what KEY=VALUE means ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "path", "value"),
    [
        ("work_mem=64MB", ("postgresql", "parameters", "work_mem"), "64MB"),
        ("postgresql.parameters.jit=off", ("postgresql", "parameters", "jit"), "off"),
        ("max_connections=200", ("postgresql", "max_connections"), "200"),
        ("ttl=30", ("timers", "ttl"), "30"),
        ("timers.loop_wait=3", ("timers", "loop_wait"), "3"),
        ("failover=tolerant", ("failover",), "tolerant"),
        ("search_path=a=b", ("postgresql", "parameters", "search_path"), "a=b"),
        ("pg_stat_statements.max=9", ("postgresql", "parameters", "pg_stat_statements.max"), "9"),
    ],
)
def test_every_name_has_its_key_in_the_inventory(word: str, path: tuple[str, ...], value: str) -> None:
    (found,) = assignments([word])
    assert (found.path, found.value) == (path, value)
    assert found.of_postgresql is (path[0] == "postgresql")


@pytest.mark.parametrize(
    ("words", "unset", "message"),
    [
        (["work_mem"], [], "wanted KEY=VALUE, got work_mem"),
        (["=3"], [], "wanted KEY=VALUE, got =3"),
        (["work_mem="], [], "work_mem: has no value; --unset work_mem takes it out of the inventory"),
        (["work_mem=1MB", "work_mem=2MB"], [], "work_mem: given twice"),
        (["work_mem=1MB"], ["work_mem"], "work_mem: given twice"),
        (["port=1"], [], "port: cannot be set here: set ports.postgresql"),
        ([], ["fsync"], "fsync: cannot be set here: it stays on: without it a power cut destroys the data"),
        (["Work_Mem=1MB"], [], "Work_Mem: write it in lower case: work_mem"),
        ([], [], "nothing to set"),
    ],
)
def test_what_cannot_be_meant_is_said(words: list[str], unset: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        assignments(words, unset)
    assert caught.value.message == message


def test_all_mistakes_are_said_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        assignments(["port=1", "fsync=off", "x"])
    assert caught.value.message == "3 settings cannot be set"
    assert len(caught.value.detail) == 3


# --- the file ------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "inventory.yaml"
    path.write_text(f"# mine\ncluster: {{name: kb}}\npostgresql:\n  memory: 1GB  # all of it\n{HOSTS}")
    path.chmod(0o640)
    return path


def test_an_edit_writes_only_when_told_and_can_be_taken_back(file: Path) -> None:
    before = file.read_bytes()
    found = edit(file, assignments(["work_mem=64MB", "ttl=25"]))
    assert file.read_bytes() == before
    assert found.inventory.postgresql.parameters["work_mem"] == "64MB"
    assert found.inventory.timers.ttl == 25
    found.write()
    assert b"  memory: 1GB  # all of it\n  parameters:\n    work_mem: 64MB\n" in file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    found.restore()
    assert file.read_bytes() == before
    assert [each.name for each in file.parent.iterdir()] == ["inventory.yaml"]


def test_a_file_that_somebody_changed_meanwhile_is_not_overwritten(file: Path) -> None:
    found = edit(file, assignments(["ttl=25"]))
    file.write_text("somebody else's")
    with pytest.raises(UsageError, match="was changed by somebody else"):
        found.write()
    assert file.read_text() == "somebody else's"


def test_a_symbolic_link_stays_one(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    edit(link, assignments(["ttl=25"])).write()
    assert link.is_symlink()
    assert "ttl: 25" in file.read_text()


def test_a_write_that_fails_leaves_the_file_and_nothing_beside_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace(file, b"new")
    assert file.read_bytes() == before
    assert [each.name for each in file.parent.iterdir()] == ["inventory.yaml"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["max_connections=5"],
            "postgresql.max_connections: wanted 25 or more, got 5 (connections PostgreSQL accepts",
        ),
        (["ttl=soon"], "timers.ttl: wanted seconds or a duration such as 90s, 30m or 1h, got"),
        (["ttl=21", "loop_wait=12"], "timers.ttl: Patroni wants loop_wait + 2 * retry_timeout <= ttl"),
        (
            ["loop_wait=14", "retry_timeout=3"],
            "timers.ttl: wanted 2 * (loop_wait + 4) or more, got 20 with loop_wait 14: the watchdog",
        ),
        (["failover=quick"], "failover: wanted fast, balanced or tolerant, got"),
        (
            ["max_parallel_maintenance_workers=4"],
            "postgresql.parameters.max_parallel_maintenance_workers: must stay 0",
        ),
        (["synchronous_commit=off"], "postgresql.parameters.synchronous_commit:"),
        (["wal_level=minimal"], "postgresql.parameters.wal_level: wanted replica or logical"),
    ],
)
def test_the_rules_of_the_inventory_hold(file: Path, words: list[str], message: str) -> None:
    before = file.read_bytes()
    with pytest.raises(UsageError) as caught:
        edit(file, assignments(words))
    assert caught.value.message.startswith(message), caught.value.message
    assert file.read_bytes() == before


def test_a_file_that_was_wrong_before_says_so_with_its_line(file: Path) -> None:
    file.write_text(file.read_text() + "nonsense: 1\n")
    with pytest.raises(InventoryError, match=r"inventory\.yaml:\d+: nonsense"):
        edit(file, assignments(["ttl=25"]))


# --- what PostgreSQL says ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "trial"),
    [
        (Output(0, "65536\n"), Trial(text="65536")),
        (Output(0, "\n"), Trial(text="")),
        (
            Output(
                1,
                '2026 GMT [1] FATAL:  invalid value for parameter "work_mem": "64QB"\n'
                '2026 GMT [1] HINT:  Valid units for this parameter are "B" and "kB".\n',
            ),
            Trial(
                refused='invalid value for parameter "work_mem": "64QB"; '
                'valid units for this parameter are "B" and "kB"'
            ),
        ),
    ],
)
def test_what_the_program_answers(output: Output, trial: Trial) -> None:
    assert TrialFact("work_mem", "64QB", 16).parse(output) == trial


@pytest.mark.parametrize("output", [Output(1, "Error: No such container: patroni"), Output(137, "")])
def test_a_program_that_did_not_run_has_said_nothing(output: Output) -> None:
    with pytest.raises(NotKnown, match="could not be asked about work_mem"):
        TrialFact("work_mem", "1MB", 16).parse(output)


def test_a_value_does_not_get_out_of_its_quotes() -> None:
    script = TrialFact("search_path", "a'; touch /tmp/x; '", 16).script
    assert "'search_path=a'\"'\"'; touch /tmp/x; '\"'\"''" in script


def test_the_name_of_the_question_tells_values_apart_and_no_value() -> None:
    """The journal has the names of all questions."""
    first, second = (TrialFact("archive_command", f"push --token={each}", 16).key for each in "ab")
    assert first != second
    assert "token" not in first
    assert first == TrialFact("archive_command", "push --token=a", 16).key


def test_libraries_are_looked_for_where_postgresql_does() -> None:
    fact = LibrariesFact("pg_stat_statements, '$libdir/plugins/x',/opt/y.so", "/usr/lib/16")
    for path in ("/usr/lib/16/pg_stat_statements.so", "/opt/y.so"):
        assert f"test -e {path} || printf" in fact.script
    assert fact.parse(Output(0, "nope\n")) == ("nope",)
    with pytest.raises(NotKnown, match="could not be looked for: no docker"):
        fact.parse(Output(1, "", "no docker"))


def server(*settings: ServerSetting) -> dict[str, ServerSetting]:
    return {setting.name: setting for setting in settings}


def setting(
    name: str, text: str, context: str = "user", *, pending: bool = False, file: str = ""
) -> ServerSetting:
    return ServerSetting(name, text, f"{text} shown", context, pending, "configuration file", file)


KNOWN = server(
    setting("work_mem", "4096"),
    setting("shared_buffers", "16384", "postmaster"),
    setting("wal_segment_size", "1", "internal"),
)


def asked(words: list[str], trials: dict[str, Trial], *, leader: str | None = "db-1") -> dict[str, Trial]:
    answers: dict[str, dict[str, object]] = {}
    for name in DATABASES:
        role = "primary" if name == leader else "replica"
        answers[name] = {
            NODE.key: NODE.parse(200, {"state": "running", "role": role}),
            SERVER.key: KNOWN,
            HardwareFact().key: Hardware(GB, 2),
        }
    wanted = assignments(words)
    for each in wanted:
        fact = TrialFact(each.name, each.value or "", 16)
        answers["db-1"][fact.key] = trials.get(each.name, Trial(text="1"))
    return config_set.tried(site("cluster", hosts(), answers), wanted)


def test_the_leader_is_asked_and_timers_are_not_postgresqls() -> None:
    assert asked(["work_mem=8MB", "ttl=25"], {"work_mem": Trial(text="8192")}) == {
        "work_mem": Trial(text="8192")
    }


@pytest.mark.parametrize(
    ("words", "trials", "message"),
    [
        (
            ["work_memm=1MB"],
            {},
            "work_memm: neither PostgreSQL nor Patroni has a setting of this name, did you mean ",
        ),
        (
            ["loop_wai=3"],
            {},
            "loop_wai: neither PostgreSQL nor Patroni has a setting of this name, did you mean loop",
        ),
        (["foo.bar=1"], {}, "foo.bar: the running PostgreSQL does not know it, so it cannot be checked"),
        (["wal_segment_size=1MB"], {}, "wal_segment_size: it is fixed when PostgreSQL is built"),
        (["work_mem=a"], {"work_mem": Trial(refused="invalid")}, "work_mem: invalid"),
        (
            ["shared_buffers=2GB"],
            {"shared_buffers": Trial(text="262144")},
            "shared_buffers: 2048 MB is more than the 1024 MB of a db host",
        ),
    ],
)
def test_what_postgresql_would_not_take_is_refused(
    words: list[str], trials: dict[str, Trial], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        asked(words, trials)
    assert caught.value.message.startswith(message), caught.value.message


def test_without_a_leader_nobody_can_be_asked() -> None:
    with pytest.raises(NotConverged, match="nothing was changed: waits for a leader"):
        asked(["work_mem=8MB"], {}, leader=None)


# --- before, and the way back --------------------------------------------------------------------------


def outcome(resource: str, status: Status) -> Outcome:
    found = Comparison(Placed("db-1", Value("x")), Change({}, {"a": 1}), Impact.NONE, ("why",))
    made = Outcome.of(settings.STEP, found, status)
    return Outcome(made.step, made.place, resource, status, made.lines)


@pytest.mark.parametrize(
    ("resource", "status", "fits"),
    [
        ("patroni:config", Status.DIFFERS, True),
        ("patroni:pause", Status.FAILED, False),
        ("patroni:restart", Status.UNKNOWN, False),
        ("probe:1 leader, 2 streaming", Status.DIFFERS, False),
    ],
)
def test_only_a_whole_cluster_is_changed(resource: str, status: Status, fits: bool) -> None:
    report = Report([outcome(resource, status)])
    assert config_set.in_the_way(report) == ([] if fits else report.outcomes)


def test_settings_need_only_some_stages_and_a_preset_the_proxies_too() -> None:
    stages = [each.title for each in settings.STEP.stages(CONTEXT)]
    assert stages == ["not paused", "configuration", "cluster", "restarts"]
    assert [each.number for each in config_set.steps_for(assignments(["ttl=25"]))] == [2]
    assert [each.number for each in config_set.steps_for(assignments(["failover=fast"]))] == [2, 3, 4]


def applied(
    file: Path, spoil: Callable[[Edit], None] = lambda edited: None, *, breaks: int = 1
) -> config_set.Applied:
    """Apply an edit on a cluster whose first `breaks` fixes fail; `spoil` happens while they do."""
    there = hosts(DATABASES)
    for host in there.values():
        put(host, x="old")
    edited = edit(file, assignments(["ttl=25"]))
    fixes: list[str] = []

    def fix(at: object, change: Change) -> None:
        fixes.append("fix")
        spoil(edited)
        if len(fixes) <= breaks:
            raise NotConverged("it broke")
        put(there["db-1"], x="new")

    resource = Value("x", fix=fix)
    steps = [step(stage(("db-1", resource)))]
    leader = {"db-1": {NODE.key: NODE.parse(200, {"state": "running", "role": "primary"})}}

    def made() -> Run:
        return run(there)

    return config_set.apply(site("cluster", there, leader), edited, steps, made, made)


def test_what_goes_well_stays_written(file: Path) -> None:
    found = applied(file, breaks=0)
    assert not found.report.failed
    assert found.back is None
    assert "ttl: 25" in file.read_text()


def test_a_refusal_brings_the_file_and_the_cluster_back(file: Path) -> None:
    before = file.read_bytes()
    written: list[bytes] = []
    found = applied(file, lambda edited: written.append(file.read_bytes()))
    assert found.report.failed
    assert found.back is not None
    assert not found.back.failed
    assert b"ttl: 25" in written[0]  # a run that is killed is finished by the next apply-all
    assert written[1] == file.read_bytes() == before


def vandalise(path: Path) -> None:
    path.write_text("somebody else's")


def test_a_file_that_changed_meanwhile_stays_and_is_said(file: Path) -> None:
    found = applied(file, lambda edited: vandalise(edited.path))
    assert found.not_restored is not None
    assert found.back is None
    assert file.read_text() == "somebody else's"


def test_settings_that_stood_there_already_are_applied_and_never_taken_back(file: Path) -> None:
    edit(file, assignments(["ttl=25"])).write()
    found = applied(file)
    assert found.report.failed
    assert found.back is None
    assert "ttl: 25" in file.read_text()


# --- afterwards ----------------------------------------------------------------------------------------


def verified(changes: dict[str, ServerSetting], errors: tuple[str, ...] = ()) -> config_set.Verified:
    answers: dict[str, dict[str, object]] = {
        name: {SERVER.key: KNOWN, FileErrorsFact(CONTEXT.superuser()).key: ()} for name in DATABASES
    }
    answers["db-3"] = {SERVER.key: {**KNOWN, **changes}, FileErrorsFact(CONTEXT.superuser()).key: errors}
    return config_set.verify(site("cluster", hosts(), answers), {"work_mem": Trial(text="4096")})


def test_what_is_in_force_everywhere_is_shown() -> None:
    found = verified({})
    assert found.in_force == {name: {"work_mem": "4096 shown"} for name in DATABASES}
    assert found.problems == []
    assert found.pending == {name: [] for name in DATABASES}


@pytest.mark.parametrize(
    ("changed", "errors", "problem"),
    [
        (
            setting("work_mem", "1", file="/data/postgresql.auto.conf"),
            (),
            "db-3: work_mem is 1 shown: ALTER SYSTEM has set it, ALTER SYSTEM RESET work_mem ends that",
        ),
        (
            setting("work_mem", "1", file="/data/postgresql.conf"),
            (),
            "db-3: work_mem is 1 shown: it comes from /data/postgresql.conf",
        ),
        (setting("shared_buffers", "1", pending=True), (), "db-3: shared_buffers waits for a restart"),
        (setting("work_mem", "4096"), ("jit: bad",), "db-3: jit: bad"),
    ],
)
def test_what_is_not_in_force_is_a_problem(
    changed: ServerSetting, errors: tuple[str, ...], problem: str
) -> None:
    assert verified({changed.name: changed}, errors).problems == [problem]


def test_the_password_is_in_no_key() -> None:
    assert CREDENTIALS.superuser_password.reveal() not in SERVER.key


def test_a_name_is_shown_with_its_value() -> None:
    assert str(Assignment("ttl", ("timers", "ttl"), "25")) == "ttl=25"
    assert str(Assignment("ttl", ("timers", "ttl"), None)) == "ttl taken out"
