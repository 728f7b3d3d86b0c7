"""Rules loaded, confirmed, taken back and removed, by real shells; `nft` and `systemctl` are stand-ins.

The stand-in of nft keeps what was loaded in a file, which is the table; its listing is a file as well.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kbpg.engine.run import Run
from kbpg.engine.site import Site
from kbpg.errors import CommandFailed, NotConverged
from kbpg.facts import Facts, Knowledge, NotKnown
from kbpg.firewall import fact, listing, policy
from kbpg.firewall.fact import Rules, RulesFact
from kbpg.hosts.local import LocalHost
from kbpg.hosts.port import Output
from kbpg.model import ABSENT, Change
from kbpg.operations.firewall_removal import remove_firewall
from kbpg.resources import firewall, firewall_unit
from kbpg.resources.docker import DB_CONTAINERS
from kbpg.resources.firewall import FirewallRules, load
from kbpg.resources.firewall_unit import FirewallUnit, Unit, UnitFact
from kbpg.resources.package import Nftables
from kbpg.resources.preflight.firewall import firewall as check
from kbpg.resources.preflight.subject import Needs, Subject
from kbpg.resources.preflight.system import System, SystemFact
from kbpg.steps.s01_prepare import STEP

from .small_cluster import context
from .test_firewall_listing import GUARDED, listed

NFT = r"""#!/bin/sh
cd "$(dirname "$0")" || exit 9
echo "$*" >>calls
case "$*" in
  "-c -f -") grep -q nonsense && { echo "Error: syntax error" >&2; exit 1; }; exit 0 ;;
  "-f -") [ ! -e broken ] || { echo "Error: Operation not supported" >&2; exit 1; }; cat >table ;;
  "list tables inet") [ ! -e silent ] || { echo "Operation not permitted" >&2; exit 1; }
    echo "table inet filter"; [ ! -e table ] || echo "table inet kbpg" ;;
  "list table inet kbpg") cat table ;;
  "-j list table inet kbpg") cat listing ;;
  "delete table inet kbpg") rm table || exit 1; [ ! -p taken ] || echo >taken ;;
  *) exit 8 ;;
esac
"""


SLEEP = r"""#!/bin/sh
cd "$(dirname "$0")" || exit 9
[ -p time-is-up ] && exec cat time-is-up
exec /bin/sleep "$@"
"""


@dataclass(frozen=True)
class World:
    directory: Path
    guard: str

    @property
    def table(self) -> str | None:
        path = self.directory / "table"
        return path.read_text() if path.exists() else None

    @property
    def guards(self) -> list[Path]:
        return list(self.directory.glob("guard.*"))

    @property
    def calls(self) -> list[str]:
        return (self.directory / "calls").read_text().splitlines()

    def site(self) -> Site:
        host = LocalHost()
        return Run(context(), {"db-1": host}, host).reading.site("db-1")

    def asked(self) -> Rules:
        question = RulesFact()
        return question.parse(LocalHost().read([question])[question.key])


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    for name, text in (("nft", NFT), ("sleep", SLEEP)):
        program = tmp_path / name
        program.write_text(text)
        program.chmod(0o755)
    found = World(tmp_path, str(tmp_path / "guard"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(firewall, "GUARD", found.guard)
    monkeypatch.setattr(fact, "GUARD", found.guard)
    return found


def test_rules_are_tried_loaded_and_confirmed_and_no_guard_is_left(world: World) -> None:
    load(world.site(), b"the rules\n")
    assert world.table == "the rules\n"
    assert world.calls == ["-c -f -", "-f -"]
    assert world.guards == []


def test_rules_that_nft_refuses_are_not_loaded_and_its_words_are_told(world: World) -> None:
    (world.directory / "table").write_text("before")
    with pytest.raises(CommandFailed) as caught:
        load(world.site(), b"nonsense\n")
    assert "syntax error" in "\n".join(caught.value.lines())
    assert (world.table, world.guards, world.calls) == ("before", [], ["-c -f -"])


def test_where_the_kernel_refuses_them_the_guard_does_not_remove_those_of_before(world: World) -> None:
    (world.directory / "table").write_text("before")
    (world.directory / "broken").touch()
    with pytest.raises(CommandFailed) as caught:
        load(world.site(), b"the rules\n")
    assert "Operation not supported" in "\n".join(caught.value.lines())
    assert (world.table, world.guards) == ("before", [])


def test_rules_that_are_not_confirmed_are_taken_away_by_the_host(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(world.directory / "taken")
    os.mkfifo(world.directory / "time-is-up")
    site = world.site()
    original = LocalHost.run

    def cut_off(self: LocalHost, argv: list[str], **more: object) -> Output:
        if argv[2] == firewall._CONFIRM:
            (world.directory / "time-is-up").write_text("")
            # Reading ends when the guard has removed the table
            (world.directory / "taken").read_text()
        return original(self, argv, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalHost, "run", cut_off)
    with pytest.raises(NotConverged, match="the host removed the firewall's rules"):
        load(site, b"the rules\n")
    assert (world.table, world.guards) == (None, [])


@pytest.mark.parametrize("shell", [each for each in ("dash", "bash", "sh") if shutil.which(each)])
def test_a_guard_that_is_not_needed_ends_with_all_its_processes(world: World, shell: str) -> None:
    argv = ["sh", "-c", "sleep 60; true"]
    with subprocess.Popen(argv, start_new_session=True, stdout=subprocess.PIPE) as guard:
        (world.directory / "guard.1").write_text(f"{guard.pid}\n")
        LocalHost().run([shell, "-c", firewall._CONFIRM, "kbpg-firewall", f"{world.guard}.1"])
        # Standard output ends with the last process that has it
        assert guard.communicate(timeout=20) == (b"", None)
    assert world.guards == []


def test_a_guard_that_an_earlier_run_left_has_no_say_any_more(world: World) -> None:
    (world.directory / "guard.dead").write_text("1\n")
    (world.directory / "table").write_text("before")
    (world.directory / "listing").write_text(json.dumps(listed()))
    assert world.asked().unconfirmed
    load(world.site(), b"the rules\n")
    assert world.guards == []
    assert not world.asked().unconfirmed


# --- what is asked -----------------------------------------------------------------------------------


def test_the_question_reads_only_and_knows_all_answers(world: World) -> None:
    assert world.asked() == Rules()
    (world.directory / "table").touch()
    (world.directory / "listing").write_text(json.dumps(listed()))
    assert world.asked() == Rules(listing.wanted(GUARDED))
    (world.directory / "table").write_text("table inet kbpg {\n\tflags dormant\n")
    assert world.asked().lines == ("table dormant", *listing.wanted(GUARDED))
    (world.directory / "silent").touch()
    assert world.asked().error.endswith("Operation not permitted")
    (world.directory / "nft").rename(world.directory / "other")
    if not any(Path(directory, "nft").exists() for directory in os.environ["PATH"].split(":")):
        assert world.asked() == Rules(nft=False)


def knowing(**answers: object) -> Facts:
    knowledge = Knowledge()
    keys = {"rules": RulesFact().key, "unit": UnitFact().key, "system": SystemFact().key}
    knowledge.put("db-1", {keys[name]: answer for name, answer in answers.items()})
    return Facts(knowledge, "db-1")


WANTED = listing.wanted(GUARDED)


def difference(resource: FirewallRules, rules: Rules) -> list[str]:
    facts = knowing(rules=rules)
    change = Change(resource.have(facts), resource.want(facts))
    return resource.diff(change, facts) if change.have != change.want else []


def test_the_plan_of_new_rules_says_who_reaches_what() -> None:
    assert difference(FirewallRules(GUARDED), Rules()) == [
        "7000 Raft: 10.0.0.120, 10.0.0.121, 10.0.0.122",
        "6432 PgBouncer: 10.9.0.0/16, 2001:db8::/32",
        "8404 HAProxy's statistics: everyone",
    ]


def test_the_plan_of_changed_rules_says_which_port_is_open_to_others() -> None:
    resource = FirewallRules(GUARDED)
    assert difference(resource, Rules(WANTED)) == []
    fewer = tuple(line for line in WANTED if line != "tcp dport 7000 drop")
    assert difference(resource, Rules(fewer)) == ["7000 Raft: everyone → 10.0.0.120, 10.0.0.121, 10.0.0.122"]
    more = (*WANTED, "tcp dport 8404 drop")
    assert difference(resource, Rules(more)) == ["8404 HAProxy's statistics: nobody → everyone"]
    foreign = (*WANTED, "tcp dport 9999 drop")
    assert difference(resource, Rules(foreign)) == ["9999: nobody → none"]


def test_a_difference_that_is_in_no_port_is_shown_as_rules() -> None:
    without_loopback = tuple(line for line in WANTED if line != listing.LOOPBACK)
    assert difference(FirewallRules(GUARDED), Rules(without_loopback)) == [f"+{listing.LOOPBACK}"]


def test_rules_that_the_host_would_remove_are_to_be_loaded_again() -> None:
    assert difference(FirewallRules(GUARDED), Rules(WANTED, unconfirmed=True)) == ["unconfirmed: True → none"]


def test_a_host_that_does_not_tell_is_not_known_and_without_a_firewall_none_of_its_business() -> None:
    silent = Rules(error="nft does not tell its rules: Operation not permitted")
    with pytest.raises(NotKnown, match="Operation not permitted"):
        FirewallRules(GUARDED).have(knowing(rules=silent))
    for rules in (silent, Rules(), Rules(nft=False)):
        assert difference(FirewallRules(), rules) == []
    assert difference(FirewallRules(), Rules(WANTED)) == [
        "remove: every port is open again to whoever reaches the host"
    ]


def test_rules_that_must_go_are_removed_with_what_guards_them(world: World) -> None:
    (world.directory / "table").touch()
    (world.directory / "guard.dead").touch()
    FirewallRules().fix(world.site(), Change({"rules": "1"}, ABSENT))
    assert (world.table, world.guards) == (None, [])


def test_a_cluster_that_is_destroyed_leaves_no_rule_and_no_unit(world: World) -> None:
    unit = world.directory / "kbpg-firewall.service"
    unit.touch()
    (world.directory / "table").touch()
    (world.directory / "systemctl").write_text("#!/bin/sh\nexit 0\n")
    (world.directory / "systemctl").chmod(0o755)
    assert remove_firewall(LocalHost(), unit=str(unit), guard=world.guard)
    assert not unit.exists()
    assert world.table is None
    assert not remove_firewall(LocalHost(), unit=str(unit), guard=world.guard)


# --- the unit ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "found"),
    [
        (Output(45, ""), Unit(systemd=False)),
        (Output(44, ""), Unit(systemd=True)),
        (Output(0, "enabled\nactive\n[Unit]\nx\n"), Unit(True, "[Unit]\nx\n", "enabled", "active")),
        (Output(0, "\n\n"), Unit(True, "", "unknown", "unknown")),
    ],
)
def test_how_the_unit_is(output: Output, found: Unit) -> None:
    assert UnitFact().parse(output) == found


GOOD = Unit(True, "text", "enabled", "active")


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        (GOOD, []),
        (Unit(systemd=False), []),
        (Unit(systemd=True), ["create"]),
        (replace(GOOD, enabled="disabled"), ["at boot: disabled → enabled"]),
        (replace(GOOD, active="inactive"), ["now: inactive → active"]),
        (replace(GOOD, text="other"), ["content: d9298a10d1b0 → 982d9e3eb996"]),
    ],
)
def test_drift_of_the_unit(found: Unit, lines: list[str]) -> None:
    resource, facts = FirewallUnit(b"text"), knowing(unit=found)
    change = Change(resource.have(facts), resource.want(facts))
    assert (change.lines() if change.have != change.want else []) == lines
    gone = FirewallUnit()
    assert gone.want(facts) is ABSENT
    assert (gone.have(facts) is ABSENT) == (found.text is None)


def test_the_unit_is_removed_where_no_systemd_runs_either(world: World) -> None:
    path = world.directory / "unit"
    path.touch()
    script = firewall_unit.REMOVE.replace("/run/systemd/system", str(world.directory / "nothing"))
    LocalHost().run(["sh", "-c", script, "kbpg-firewall", str(path), "kbpg-firewall.service"])
    assert not path.exists()


# --- the step ----------------------------------------------------------------------------------------


def stages(settings: str) -> dict[str, list[str]]:
    found = STEP.stages(context(settings))
    return {
        stage.title: [item.resource.id for item in stage.items if item.place == "db-1"] for stage in found
    }


def test_the_step_loads_before_it_keeps_and_removes_the_unit_first() -> None:
    file, unit = "file:/opt/keybuzz/kbpg/firewall.nft", f"unit:{policy.UNIT}"
    managed = stages("prepare: {firewall: managed}\n")
    assert managed["nftables"] == ["package:nftables"]
    assert managed["firewall"] == ["firewall", file, unit]
    off = stages("")
    assert "nftables" not in off
    assert off["firewall"] == [unit, "firewall", file]


@pytest.mark.parametrize(
    ("settings", "rules", "debian", "says"),
    [
        ("", Rules(nft=False), False, None),
        ("prepare: {firewall: managed}\n", Rules(nft=False), True, None),
        ("prepare: {firewall: managed}\n", Rules(), False, None),
        ("prepare: {firewall: managed}\n", Rules(nft=False), False, "kbpg cannot install it on Rocky"),
        ("prepare: {firewall: managed}\n", Rules(error="nft fails"), True, "nft fails"),
    ],
)
def test_the_preflight(settings: str, rules: Rules, debian: bool, says: str | None) -> None:
    inventory = context(settings).inventory
    name = "debian" if debian else "rocky"
    system = System(name, "", name.title(), "x86_64", debian, "26.1.5", "", "chronyd", 1_048_576)
    needs = Needs(DB_CONTAINERS, (), {}, ())
    problem = check(Subject(inventory, inventory.host("db-1"), needs, knowing(rules=rules, system=system)))
    assert (says in problem.text) if says and problem else problem is None
    assert (problem is None) == (says is None)


def test_nftables_is_installed_where_it_is_missing() -> None:
    assert Nftables().have(knowing(rules=Rules(nft=False))) is ABSENT
    assert Nftables().have(knowing(rules=Rules())) == Nftables().want(knowing(rules=Rules()))
