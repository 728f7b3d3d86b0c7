"""Compiled templates are kept in the user's own directory, and are never a reason to stop or to render otherwise."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import jinja2
import pytest
from jinja2.bccache import bc_magic

from kbpg import compiled, render
from kbpg.inventory import read_name

TEXT = "one {{ more }}\n"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "kbpg"


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    directory = tmp_path / "templates"
    directory.mkdir()
    (directory / "a.j2").write_text(TEXT)
    return directory


@pytest.fixture
def maker(tmp_path: Path) -> Path:
    file = tmp_path / "filters.py"
    file.write_text("first")
    return file


def rendered(templates: Path, maker: Path) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates), autoescape=True, bytecode_cache=compiled.cache([maker])
    )
    return environment.get_template("a.j2").render(more="two")


def refuse(*_: object, **__: object) -> str:
    raise AssertionError("compiled once more")


def test_a_template_is_compiled_once(
    kept: Path, templates: Path, maker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rendered(templates, maker) == "one two"
    assert kept.stat().st_mode & 0o777 == 0o700
    (file,) = kept.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr(jinja2.Environment, "compile", refuse)
    assert rendered(templates, maker) == "one two"


def test_a_changed_template_or_another_way_to_render_is_compiled_anew(
    kept: Path, templates: Path, maker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered(templates, maker)
    (templates / "a.j2").write_text("three {{ more }}")
    assert rendered(templates, maker) == "three two"
    maker.write_text("second")
    rendered(templates, maker)
    assert len(list(kept.iterdir())) == 2
    monkeypatch.setattr(compiled, "__version__", "99")
    rendered(templates, maker)
    assert len(list(kept.iterdir())) == 3


def test_what_is_computed_when_compiling_depends_on_the_filters_sources(kept: Path) -> None:
    """`{{ "x" | read_name }}` is constant in what is compiled: its module must count."""
    render._environment.cache_clear()
    try:
        cache = render._environment().bytecode_cache
    finally:
        render._environment.cache_clear()
    assert isinstance(cache, compiled.Templates)
    makers = {Path(render.__file__), Path(read_name.__code__.co_filename)}
    assert Path(render.__file__) != Path(read_name.__code__.co_filename)
    assert cache._made_by == compiled._made_by({Path(f.__code__.co_filename) for f in _filters()} | makers)


def _filters() -> list[object]:
    names = ("read_name", "version_tuple", "yaml", "reveal")
    return [render._environment().filters[name] for name in names]


def test_another_process_renders_the_same_from_it(kept: Path) -> None:
    """Every template of kbpg is compiled, and then read back by a process that may not compile."""
    program = (
        "import sys, jinja2; from kbpg import render\n"
        "if sys.argv[1] == 'again': jinja2.Environment.compile = None\n"
        "from kbpg.render import _environment as e\n"
        "names = [n for n in e().list_templates(extensions=['j2']) if not n.startswith('report/')]\n"
        "print(len(names), *sorted(str(len(e().get_template(n).root_render_func.__code__.co_code)) for n in names))"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(kept.parent)}

    def run(how: str) -> str:
        argv = [sys.executable, "-c", program, how]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout

    first = run("first")
    assert int(first.split()[0]) >= 10
    assert run("again") == first


@pytest.mark.parametrize(
    "content",
    [b"", b"j2", bc_magic, bc_magic + b"garbage", bc_magic + pickle.dumps("another", 2), b"\0" * 99],
)
def test_a_broken_file_is_compiled_anew(kept: Path, templates: Path, maker: Path, content: bytes) -> None:
    rendered(templates, maker)
    (file,) = kept.iterdir()
    whole = file.read_bytes()
    file.write_bytes(content)
    assert rendered(templates, maker) == "one two"
    assert file.read_bytes() == whole


def test_what_is_no_code_is_compiled_anew(kept: Path, templates: Path, maker: Path) -> None:
    import marshal

    rendered(templates, maker)
    (file,) = kept.iterdir()
    whole = file.read_bytes()
    checksum = jinja2.BytecodeCache().get_source_checksum(TEXT)
    file.write_bytes(bc_magic + pickle.dumps(checksum, 2) + marshal.dumps("text"))
    assert rendered(templates, maker) == "one two"
    assert file.read_bytes() == whole


@pytest.mark.parametrize("where", ["kbpg", "."])
def test_what_others_may_write_is_not_used(kept: Path, maker: Path, where: str) -> None:
    kept.mkdir(mode=0o700)
    (kept.parent / where).chmod(0o770)
    assert compiled.cache([maker]) is None


def test_a_file_that_others_may_write_is_not_used(
    kept: Path, templates: Path, maker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been put there while the directory was open to them."""
    rendered(templates, maker)
    (file,) = kept.iterdir()
    file.chmod(0o666)
    monkeypatch.setattr(jinja2.Environment, "compile", refuse)
    with pytest.raises(AssertionError, match="compiled once more"):
        rendered(templates, maker)


def test_a_directory_of_somebody_else_is_not_used(
    kept: Path, maker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.mkdir(mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: kept.stat().st_uid + 1)
    assert compiled.cache([maker]) is None


def test_no_place_for_it(templates: Path, maker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(maker))
    assert compiled.cache([maker]) is None
    assert rendered(templates, maker) == "one two"


def test_a_full_disk_is_no_error(
    kept: Path, templates: Path, maker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert rendered(templates, maker) == "one two"
    assert list(kept.iterdir()) == []


def test_a_relative_cache_home_is_not_one(
    tmp_path: Path, maker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the specification it is to be ignored."""
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    found = compiled.cache([maker])
    assert found is not None
    assert found.directory == tmp_path / ".cache" / "kbpg"
