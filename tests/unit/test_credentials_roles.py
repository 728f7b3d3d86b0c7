"""Passwords of the inventory's own roles in the credentials file: generated once, kept, never lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbpg.credentials import all_secrets, complete, generate, load, parse, render, role_password_name, write
from kbpg.errors import CredentialsError
from kbpg.secret import Secret


def test_a_new_file_has_them(tmp_path: Path) -> None:
    new = generate("kb_admin", "kb_app", ("reporting", "_a1"))
    path = tmp_path / "postgres.env"
    write(path, render(new))
    found = load(path, ("reporting", "_a1"))
    assert found
    assert found.missing == ()
    assert complete(found) == new
    assert complete(found).roles == new.roles
    assert set(new.roles.values()) <= set(all_secrets(new))
    assert len({secret.reveal() for secret in all_secrets(new)}) == len(all_secrets(new))
    assert f"POSTGRES_ROLE_REPORTING_PASS='{new.roles['reporting'].reveal()}'\n" in path.read_text()


def test_a_role_that_is_added_gets_one_and_the_others_keep_theirs() -> None:
    before = generate("kb_admin", "kb_app", ("a",))
    found = parse(render(before).reveal(), path="f", roles=("a", "b"))
    assert found.missing == ("POSTGRES_ROLE_B_PASS",)
    after = complete(found)
    assert after.roles["a"] == before.roles["a"]
    assert after.generated == {"POSTGRES_ROLE_B_PASS"}
    text = render(after, found).reveal()
    assert text.startswith(render(before).reveal())
    assert text.endswith(f"# added by kbpg\nPOSTGRES_ROLE_B_PASS='{after.roles['b'].reveal()}'\n")


def test_a_role_that_left_keeps_its_password_in_the_file() -> None:
    before = generate("kb_admin", "kb_app", ("a", "b"))
    found = parse(render(before).reveal(), path="f", roles=("a",))
    after = complete(found)
    assert set(after.roles) == {"a"}
    assert render(after, found) == render(before)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("POSTGRES_ROLE_A_PASS=short", "POSTGRES_ROLE_A_PASS: is 5 characters long"),
        ("POSTGRES_ROLE_a_PASS='long enough'", "POSTGRES_ROLE_a_PASS: unknown name"),
        ("POSTGRES_ROLE__PASS='long enough'", "POSTGRES_ROLE__PASS: unknown name"),
        ("POSTGRES_ROLE_A_PASS='long enough'\nPOSTGRES_ROLE_A_PASS='long enough'", "given again"),
    ],
)
def test_a_wrong_line_is_named(line: str, said: str) -> None:
    text = render(generate("kb_admin", "kb_app")).reveal() + line + "\n"
    with pytest.raises(CredentialsError) as caught:
        parse(text, path="f")
    assert said in str(caught.value)
    assert "long enough" not in str(caught.value)


def test_names_of_roles_give_different_names_in_the_file() -> None:
    assert role_password_name("a_b1") == "POSTGRES_ROLE_A_B1_PASS"
    found = parse(render(generate("kb_admin", "kb_app", ("a",))).reveal(), path="f", roles=("a",))
    assert isinstance(found.values["POSTGRES_ROLE_A_PASS"], Secret)
