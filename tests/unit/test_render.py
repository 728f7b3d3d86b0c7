"""Filters give back what went in; secrets go where they may, and nowhere else."""

from __future__ import annotations

import re
import shlex
from types import SimpleNamespace

import pytest
import yaml as pyyaml
from hypothesis import example, given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from kbpg import render
from kbpg.secret import Secret

ODD = "a'b\"c$d\\e%f@g:h/i ü€😀;#{{ x }}\x85\u2028\ufeff"
text = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
line = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"))


@given(text | st.booleans() | st.integers() | st.none())
@example(ODD)
@example("yes")
@example("0x10")
@example("1:30")
@example("null")
@example("\t tab")
def test_yaml_reads_back_the_value(value: str | bool | int | None) -> None:
    written = render.yaml(value)
    assert "\n" not in written
    assert pyyaml.safe_load(f"key: {written} # comment") == {"key": value}
    assert pyyaml.safe_load(f"[{written}]") == [value]


@given(
    st.dictionaries(
        text, st.recursive(text | st.booleans() | st.integers(), st.lists, max_leaves=5), max_size=4
    )
)
@example({"jit": "off", "prefix": "%m 'x' \"y\" \\ ", "odd": ODD, "long": "word " * 100})
def test_yaml_block_reads_back_the_value_indented_too(value: dict[str, object]) -> None:
    block = render.yaml_block(value)
    assert pyyaml.safe_load(block) == value


@given(text)
@example(ODD)
def test_sql_literal_ends_where_it_should(value: str) -> None:
    written = render.sql_literal(value)
    if "\\" in value:  # backslashes mean something in E'' only
        assert written.startswith(" E'")
        body = re.fullmatch(r"E'((?:[^'\\]|''|\\\\)*)'", written.strip(), re.DOTALL)
        assert body
        assert body[1].replace("''", "'").replace("\\\\", "\\") == value
    else:
        body = re.fullmatch(r"'((?:[^']|'')*)'", written, re.DOTALL)
        assert body
        assert body[1].replace("''", "'") == value


@given(line)
@example(ODD.replace("\x85", ""))
def test_doubled_quotes_end_where_they_should(value: str) -> None:
    for written, quote in (
        (render.sql_identifier(value), '"'),
        (render.userlist(value), '"'),
        (render.pgbouncer_ini(value), "'"),
    ):
        body = re.fullmatch(f"{quote}((?:[^{quote}]|{quote}{quote})*){quote}", written)
        assert body
        assert body[1].replace(quote * 2, quote) == value


@given(line)
@example(ODD.replace("\x85", ""))
def test_haproxy_words_are_one_strongly_quoted_word(value: str) -> None:
    assert shlex.split(render.haproxy(value)) == [value]


def test_dockerfile_words_keep_variables_and_quotes_literal() -> None:
    assert render.dockerfile('it\'s "one" $HOME \\ more') == '"it\'s \\"one\\" \\$HOME \\\\ more"'


@pytest.mark.parametrize("quote", [render.pgbouncer_ini, render.userlist, render.haproxy, render.dockerfile])
@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\0b"])
def test_a_line_break_is_refused_where_it_would_start_a_setting(quote: object, bad: str) -> None:
    with pytest.raises(ValueError, match="cannot hold") as caught:
        quote(bad)  # type: ignore[operator]
    assert bad not in str(caught.value)


def test_a_nul_is_refused_in_sql() -> None:
    for quote in (render.sql_literal, render.sql_identifier):
        with pytest.raises(ValueError, match="SQL cannot hold"):
            quote("a\0b")


@pytest.mark.parametrize(
    "quote",
    [
        render.yaml,
        render.sql_literal,
        render.sql_identifier,
        render.pgbouncer_ini,
        render.userlist,
        render.haproxy,
        render.dockerfile,
    ],
)
def test_a_secret_never_becomes_stars_in_a_file(quote: object) -> None:
    with pytest.raises(TypeError, match="reveal"):
        quote(Secret("hush"))  # type: ignore[operator]


def test_a_template_cannot_print_a_secret_it_did_not_reveal() -> None:
    inventory = SimpleNamespace(cluster=SimpleNamespace(superuser=Secret("hush")))
    with pytest.raises(TypeError, match="reveal") as caught:
        render.render("sql/pgbouncer_auth.sql.j2", inventory=inventory)
    assert "hush" not in str(caught.value)


def test_reveal_works_in_the_templates_of_secret_files_only() -> None:
    credentials = SimpleNamespace(pgbouncer_password=Secret('a"b'))
    rendered = render.render("pgbouncer/userlist.txt.j2", credentials=credentials)
    assert rendered == '"pgbouncer_auth" "a""b"\n'
    outside = SimpleNamespace(name="patroni/patroni.yml.j2")
    with pytest.raises(TypeError, match=r"patroni\.yml\.j2 is no template of a secret file"):
        render.reveal(outside, Secret("hush"))  # type: ignore[arg-type]


def test_only_templates_of_secret_files_ask_for_secrets() -> None:
    templates = render.templates_directory()
    asking = {
        str(path.relative_to(templates))
        for path in templates.rglob("*.j2")
        if re.search(r"\breveal\b|_password\b", path.read_text(encoding="utf-8"))
    }
    assert asking == set(render.SECRET_TEMPLATES)


def test_a_missing_name_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="credentials"):
        render.render("pgbouncer/userlist.txt.j2")
