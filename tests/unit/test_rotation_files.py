"""The two files of a rotation: what is written, what is kept, who is told, and what is refused meanwhile."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from kbpg.amid import Amid
from kbpg.credentials import Found, generate, load, parse, render, rotation, write
from kbpg.errors import CredentialsError, KbpgError, LockHeld, UsageError
from kbpg.options import Options
from kbpg.secret import Secret
from kbpg.session import open_session, read_context

from .test_session import UNUSED, closed_ports, write_inventory

ROLES = ("reporting", "a_b")


@pytest.fixture
def found(tmp_path: Path) -> Found:
    path = tmp_path / "postgres.env"
    text = render(generate("kb_admin", "kb_app", ROLES)).reveal()
    write(path, Secret(f"{text}\n# ours\nexport OTHER='left alone' # here\n"))
    return _load(path)


def _load(path: Path) -> Found:
    loaded = load(path, ROLES)
    assert loaded is not None
    return loaded


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["app"], ["POSTGRES_APP_PASS"]),
        (["rest", "app", "rest"], ["PATRONI_REST_PASS", "POSTGRES_APP_PASS"]),
        (["role", "a_b", "app"], ["POSTGRES_ROLE_A_B_PASS", "POSTGRES_APP_PASS"]),
        (
            ["all"],
            [*rotation.KINDS.values(), "POSTGRES_ROLE_REPORTING_PASS", "POSTGRES_ROLE_A_B_PASS"],
        ),
    ],
)
def test_words_are_names(words: Sequence[str], names: Sequence[str]) -> None:
    assert rotation.names_for(words, ROLES) == tuple(names)
    assert rotation.names_for(" ".join(rotation.words_for(names)).split(), ROLES) == tuple(names)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["apps"], "apps: nothing that can be rotated"),
        (["role"], "role: which one"),
        (["role", "kb_app"], "role kb_app: no role of the inventory"),
    ],
)
def test_words_that_mean_nothing(words: Sequence[str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        rotation.names_for(words, ROLES)


def test_the_new_file_is_the_old_one_but_for_the_passwords(found: Found) -> None:
    before = found.path.read_bytes()
    new = rotation.begin(found, ["POSTGRES_APP_PASS", "POSTGRES_ROLE_A_B_PASS"])
    assert found.path.read_bytes() == before
    assert new.path == found.path.with_name("postgres.env.new")
    assert stat.S_IMODE(new.path.stat().st_mode) == 0o600
    assert rotation.changed(found, new) == ("POSTGRES_APP_PASS", "POSTGRES_ROLE_A_B_PASS")
    pairs = zip(before.decode().splitlines(), new.path.read_text().splitlines(), strict=True)
    assert [old.partition("=")[0] for old, now in pairs if old != now] == list(rotation.changed(found, new))
    rotation.end(found, new)
    assert [each.name for each in found.path.parent.iterdir()] == ["postgres.env"]
    assert found.path.read_text() == new.text.reveal()
    assert stat.S_IMODE(found.path.stat().st_mode) == 0o600


def test_what_is_not_what_was_written_is_no_rotation(found: Found) -> None:
    with pytest.raises(CredentialsError, match="not what was written there"):
        rotation.begin(found, ["PATRONI_REST_PASS"], lambda: found.values["PATRONI_REST_PASS"])
    assert not rotation.new_path(found.path).exists()
    assert rotation.left(found.path, ROLES) is None


def test_what_cannot_be_read_back_is_no_rotation(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(path: Path, roles: Sequence[str]) -> Found:
        raise CredentialsError(f"{path}: cannot be read")

    monkeypatch.setattr(rotation, "load", unreadable)
    with pytest.raises(CredentialsError, match="cannot be read"):
        rotation.begin(found, ["PATRONI_REST_PASS"])
    assert not rotation.new_path(found.path).exists()


def test_a_link_stays_a_link(found: Found, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "postgres.env"
    link.parent.mkdir()
    link.symlink_to(found.path)
    mine = _load(link)
    new = rotation.begin(mine, ["PATRONI_REST_PASS"])
    assert new.path.parent == found.path.parent
    rotation.end(mine, new)
    assert link.is_symlink()
    assert _load(found.path).values == new.values


@pytest.mark.parametrize("which", ["postgres.env", "postgres.env.new"])
def test_a_file_that_was_edited_meanwhile_is_not_thrown_away(found: Found, which: str) -> None:
    new = rotation.begin(found, ["PATRONI_REST_PASS"])
    edited = found.path.with_name(which)
    edited.write_text(edited.read_text() + "# mine\n")
    with pytest.raises(CredentialsError, match=f"{which}: was changed while"):
        rotation.end(found, new)
    assert new.path.exists()


def test_who_holds_it_is_seen(found: Found) -> None:
    assert not rotation.under_way(found.path)
    held = rotation.hold(rotation.begin(found, ["PATRONI_REST_PASS"]))
    assert rotation.under_way(found.path)
    os.close(held)
    assert not rotation.under_way(found.path)


def test_who_holds_it_is_not_waited_for(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "LOOK", 0.1, raising=False)
    new = rotation.begin(found, ["PATRONI_REST_PASS"])
    held = rotation.hold(new)
    # One that waited would wait for this, and get it
    freed = threading.Timer(5.0, os.close, (held,))
    freed.start()
    with pytest.raises(LockHeld, match="passwords are being rotated by another kbpg") as caught:
        rotation.hold(new)
    assert caught.value.hint == "wait for its end; what it leaves: kbpg credentials rotate --resume"
    freed.cancel()
    os.close(held)
    os.close(rotation.hold(new))


def test_a_look_whether_it_is_held_is_in_nobodys_way(found: Found) -> None:
    new = rotation.begin(found, ["PATRONI_REST_PASS"])
    looking = os.open(new.path, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(0.1, os.close, (looking,)).start()
    os.close(rotation.hold(new))


# --- other commands ------------------------------------------------------------------------------------


@pytest.fixture
def broken_off(tmp_path: Path) -> tuple[Options, Found]:
    options = write_inventory(tmp_path, UNUSED)
    path = tmp_path / "credentials" / "postgres.env"
    write(path, render(generate("kb_admin", "kb_app")))
    old = parse(path.read_text(), path=path)
    return options, rotation.begin(old, ["POSTGRES_APP_PASS"])


def test_a_command_that_changes_something_names_the_way(broken_off: tuple[Options, Found]) -> None:
    options, new = broken_off
    with (
        pytest.raises(CredentialsError) as caught,
        open_session(options, doing="apply-all", lock=True),
    ):
        pytest.fail("it opened")
    assert caught.value.lines() == [
        f"{new.path}: a rotation of passwords was broken off",
        "hint: kbpg credentials rotate --resume",
    ]


def test_amid_a_rotation_that_runs_it_waits(broken_off: tuple[Options, Found]) -> None:
    options, new = broken_off
    held = rotation.hold(new)
    try:
        with pytest.raises(LockHeld, match="being rotated"), open_session(options, doing="x", lock=True):
            pytest.fail("it opened")
    finally:
        os.close(held)


def test_a_look_has_both_and_says_so(tmp_path: Path) -> None:
    with closed_ports() as ports:
        options = write_inventory(tmp_path, ports)
        path = tmp_path / "credentials" / "postgres.env"
        write(path, render(generate("kb_admin", "kb_app")))
        old = parse(path.read_text(), path=path)
        new = rotation.begin(old, ["POSTGRES_APP_PASS"])
        said: list[str] = []
        with open_session(options, doing="status", lock=False, partial=True, tell=said.append) as session:
            login = session.context.application(6432)
            for each, password in ((new, login.password), (old, login.former)):
                assert password == each.values["POSTGRES_APP_PASS"]
                assert session.journal.mask(password.reveal()) == "***"  # type: ignore[union-attr]
            assert session.context.superuser().former is None
        assert said == [
            "a rotation of passwords was broken off: each password in force is that of postgres.env or of "
            "postgres.env.new; kbpg credentials rotate --resume ends it"
        ]
        with (  # hosts are dialled: what mends a cluster is not held up
            pytest.raises(KbpgError, match="4 hosts cannot be used"),
            open_session(options, doing="failover", lock=True, amid=Amid.MEND),
        ):
            pytest.fail("it opened")


def test_the_new_file_alone_is_no_credentials_file(broken_off: tuple[Options, Found]) -> None:
    options, new = broken_off
    (new.path.parent / "postgres.env").unlink()
    with pytest.raises(CredentialsError, match=r"no such file, but postgres\.env\.new"):
        read_context(options)


def test_raft_s_password_among_others_is_none_of_ours(broken_off: tuple[Options, Found]) -> None:
    options, new = broken_off
    raft = new.values["RAFT_PASS"].reveal()
    new.path.write_text(new.path.read_text().replace(raft, "brand-new-of-raft"))
    with pytest.raises(CredentialsError, match=r"RAFT_PASS is not that of postgres\.env, and neither"):
        read_context(options)
