"""Passwords rotated on a cluster in memory: the order, what clients meet, and a kill at every moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbpg import scram
from kbpg.credentials import Found, complete, load, rotation
from kbpg.errors import CredentialsError, NotConverged, Refused
from kbpg.layout import POOLER_USER
from kbpg.model import Status
from kbpg.session import read_context
from kbpg.steps import s02_patroni
from kbpg.steps.rotating import APPLICATIONS_STEP, EVERYTHING, SERVERS_STEP
from kbpg.steps.titled import titled

from .rotation_world import Killed, World, build, secrets_in
from .small_cluster import DATABASES, PROXIES, context

USERS = {
    "kb_admin": "superuser_password",
    "kb_app": "app_password",
    "replicator": "replication_password",
    "rewind_user": "rewind_password",
    POOLER_USER: "pgbouncer_password",
}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return build(tmp_path, monkeypatch)


def rotate(world: World, *words: str, resume: bool = False) -> int:
    from kbpg.cli.rotating import rotate

    return rotate(world.options, words, resume=resume, cut=False)


def killed_at(world: World, moment: tuple[int, str], *words: str) -> str:
    """Rotate and be killed at `moment`, the old file untouched, and return it; the guard ends the pause."""
    before, world.kill = world.path.read_text(), moment
    try:
        code = rotate(world, *words)
    except Killed:
        assert world.path.read_text() == before
    else:
        pytest.fail(f"it was to be killed, and ended with {code}")
    world.kill = None
    world.paused.clear()
    return before


def assert_in_force(world: World, before: str, *names: str) -> None:
    """The file has new passwords for `names` and no others, they are in force, and everything agrees."""
    found, new = _found(world), world.path.read_text()
    assert not rotation.new_path(world.path).exists()
    changed = {
        line.partition("=")[0]
        for line, other in zip(new.splitlines(), before.splitlines(), strict=True)
        if line != other
    }
    assert changed == {rotation.KINDS.get(name, name) for name in names}
    credentials = complete(found)
    for user, field in USERS.items():
        assert scram.matches(world.roles[user], getattr(credentials, field)), user
    assert scram.matches(world.roles["reporting"], credentials.roles["reporting"])
    assert set(world.poolers.values()) == {credentials.pgbouncer_password.reveal()}
    assert set(world.patronis.values()) == {credentials.rest_password.reveal()}
    assert set(world.rafts.values()) == {credentials.raft_password.reveal()}
    assert world.paused == set()
    context, _ = read_context(world.options, credentials_exist=True)
    assert context.former is None
    report = world.run(context).plan(EVERYTHING)
    assert [each.lines for each in report.outcomes if each.status is not Status.OK] == []


TOGETHER = (*(word for word in rotation.KINDS if word != "raft"), "role", "reporting")
ACTS = 28
"""Acts of a rotation of these in this world that change something; one test counts them. Raft's is by itself."""
EVERY = (*TOGETHER[:-2], "POSTGRES_ROLE_REPORTING_PASS")


def test_a_rotation_takes_its_stages_by_titles_that_there_are() -> None:
    """The gates are requirements; only the inventory's own roles may be missing, where it has none."""
    (plain, own) = context(), context("roles: [{name: reporting}]\n")
    gates = [stage.title for stage in SERVERS_STEP.stages(plain) if stage.requirement]
    assert gates == [stage.title for stage in s02_patroni.stages(plain) if stage.requirement] != []
    assert [stage.title for stage in APPLICATIONS_STEP.stages(plain)] == ["role"]
    assert [stage.title for stage in APPLICATIONS_STEP.stages(own)] == ["role", "roles"]
    with pytest.raises(KeyError, match="not paused at all"):
        titled(s02_patroni.stages(plain), ("not paused at all",))


def test_everything_at_once_in_an_order(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    before = world.path.read_text()
    assert rotate(world, "all") == 0
    assert_in_force(world, before, *EVERY, "raft")
    order = [act.replace("px-1", "px").replace("px-2", "px") for act in world.acts]
    raft = order.index("db-2: restart") - 1
    assert [act for act in order[raft:] if "restart" in act] == [
        "db-2: restart",
        "db-1: restart as leader",
        "db-3: restart",
    ]
    order = order[:raft]
    first = {act: number for number, act in reversed(list(enumerate(order)))}
    last = {act: number for number, act in enumerate(order)}
    assert last["alter replicator"] < first["db-1: write secrets.yml"] < first["db-1: reload"]
    assert last["db-3: reload"] < first["px: write userlist.txt"] < first["px: PAUSE"]
    assert last["px: PAUSE"] < first["alter pgbouncer_auth"] < first["px: kill -HUP 1 pgbouncer"]
    assert last["px: kill -HUP 1 pgbouncer"] < first["px: RESUME"] < first["alter kb_app"]
    shown = "".join(capsys.readouterr())
    assert not [
        secret for secret in secrets_in(before) + secrets_in(world.path.read_text()) if secret in shown
    ]


@pytest.mark.parametrize("word", rotation.KINDS)
def test_one_alone_leaves_the_others(world: World, word: str) -> None:
    before = world.path.read_text()
    assert rotate(world, word) == 0
    assert_in_force(world, before, word)
    assert sorted(act for act in world.acts if "RESUME" in act) == (
        [f"{name}: RESUME" for name in PROXIES] if word in ("pgbouncer", "raft") else []
    )


def test_nobody_who_logs_in_meets_a_pgbouncer_that_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[str] = []
    plain = World.act

    def act(self: World, text: str) -> object:
        met.extend(filter(None, map(self.login_of_a_client, PROXIES)))
        return plain(self, text)

    monkeypatch.setattr(World, "act", act)
    assert rotate(world, "pgbouncer") == 0
    assert met == []


def moments() -> list[tuple[int, str]]:
    return [(number, when) for number in range(ACTS) for when in ("before", "after")]


@pytest.mark.parametrize("moment", moments(), ids=lambda m: f"{m[1]}-{m[0]}")
def test_killed_at_any_moment_it_is_resumed(world: World, moment: tuple[int, str]) -> None:
    before = killed_at(world, moment, *TOGETHER)
    assert rotate(world, resume=True) == 0
    assert_in_force(world, before, *EVERY)


def test_the_moments_are_all_of_them(world: World) -> None:
    rotate(world, *TOGETHER)
    assert len(world.acts) == ACTS


def test_killed_twice_and_asked_for_by_name_it_goes_on(world: World) -> None:
    before, world.kill = world.path.read_text(), (2, "before")
    with pytest.raises(Killed):
        rotate(world, "app", "pgbouncer", "rest")
    new = rotation.new_path(world.path).read_text()
    world.kill = (len(world.acts) + 4, "after")
    with pytest.raises(Killed):
        rotate(world, resume=True)
    world.kill = None
    assert rotate(world, "app") == 0
    assert_in_force(world, before, "app", "pgbouncer", "rest")
    assert world.path.read_text() == new


def test_a_cluster_that_differs_is_refused_before_anything(world: World) -> None:
    world.roles["replicator"] = scram.verifier(complete(_found(world)).app_password)
    before = world.path.read_bytes()
    with pytest.raises(Refused) as caught:
        rotate(world, "app")
    assert caught.value.detail == ("cluster: role:replicator: password: differs → matches",)
    assert world.acts == []
    assert world.path.read_bytes() == before
    assert not rotation.new_path(world.path).exists()


def _found(world: World) -> Found:
    found = load(world.path, ["reporting"])
    assert found is not None
    return found


def test_an_old_password_that_is_still_let_in_keeps_the_old_file(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = world.path.read_bytes()
    monkeypatch.setattr(World, "lets_in", lambda *_: "")
    with pytest.raises(NotConverged) as caught:
        rotate(world, "rewind")
    assert caught.value.detail[0] == (
        "db-1: rewind_user in postgres, port 5432: the old password is still let in"
    )
    assert "--resume" in caught.value.detail[-1]
    assert world.path.read_bytes() == before
    assert rotation.new_path(world.path).exists()


def test_a_file_edited_meanwhile_is_not_replaced(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from kbpg.operations import rotating

    def edited(*_: object) -> list[str]:
        with world.path.open("a") as file:
            file.write("# mine\n")
        return []

    monkeypatch.setattr(rotating, "prove", edited)
    with pytest.raises(CredentialsError, match="was changed while the passwords were rotated"):
        rotate(world, "rest")
    assert world.path.read_text().endswith("# mine\n")


def test_the_reload_of_a_patroni_that_lets_nobody_in_is_a_signal(world: World) -> None:
    """Somebody edited PATRONI_REST_PASS: no password that kbpg knows is the one in force."""
    world.patronis = dict.fromkeys(DATABASES, "of long ago")
    text = world.path.read_text().splitlines()
    world.path.write_text(
        "\n".join(s for s in text if "PATRONI_REST" not in s) + "\nPATRONI_REST_PASS=brand-new\n"
    )
    context, _ = read_context(world.options, credentials_exist=True)
    assert not world.run(context).apply(EVERYTHING[:1]).failed
    assert sorted(act for act in world.acts if "kill -HUP 1 " in act) == [
        f"{n}: kill -HUP 1 patroni" for n in DATABASES
    ]
    assert set(world.patronis.values()) == {"brand-new"}
