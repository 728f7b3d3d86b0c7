"""The stand-in for `python:3.12-slim-trixie`: a CPython 3.12 of this machine, moved to /usr/local."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from kbpg.errors import KbpgError
from kbpg.lab.docker import build
from kbpg.lab.standin.packages import labels, require_tools, set_rpath, strip
from kbpg.lab.templates import lab_templates

ASK = "import sys; print('%d.%d.%d' % sys.version_info[:3]); print(sys.base_prefix)"
# Interpreters of the distribution: their prefix is not theirs alone.
SHARED_PREFIXES = (Path("/usr"), Path("/"))
# Modules of parts that the public slim image does not have either, or that need libraries nobody wants.
WITHOUT = ("test", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "config-*")
WITHOUT_MODULES = ("_tkinter*", "nis.*", "_test*", "_xxtest*", "xxlimited*", "_ctypes_test*")


def build_python(tag: str) -> None:
    """Build `tag` from the first CPython 3.12 with a prefix of its own on this machine."""
    require_tools("patchelf")
    version, prefix = find_python()
    with TemporaryDirectory(prefix="kbpg-standin-") as scratch:
        copy_python(prefix, Path(scratch) / "python")
        build(
            Path(scratch),
            lab_templates() / "standin" / "python.Dockerfile",
            tag,
            labels=labels({"python": version}),
            network="host",
        )


def find_python() -> tuple[str, Path]:
    """Return version and prefix of a CPython 3.12 that can be copied; raise KbpgError where there is none."""
    for interpreter in _candidates():
        asked = subprocess.run(
            [interpreter, "-I", "-c", ASK], capture_output=True, text=True, check=False, timeout=30
        )
        if asked.returncode:
            continue  # a shim of a version manager without that version
        version, prefix = asked.stdout.splitlines()
        if version.startswith("3.12.") and Path(prefix) not in SHARED_PREFIXES:
            return version, Path(prefix)
    raise KbpgError(
        "no registry to pull the public Python image from, and no CPython 3.12 to copy on this machine",
        hint="install one, for example with `pyenv install 3.12` or `uv python install 3.12`",
    )


def _candidates() -> Iterator[str]:
    found = shutil.which("python3.12")
    if found:
        yield found
    home = Path.home()
    for pattern in (
        ".pyenv/versions/3.12*/bin/python3.12",
        ".local/share/uv/python/cpython-3.12*/bin/python3.12",
    ):
        yield from map(str, sorted(home.glob(pattern)))
    yield sys.executable


def copy_python(prefix: Path, into: Path) -> None:
    """Copy interpreter, library and pip from `prefix` to `into`, fit to run as /usr/local."""
    (into / "bin").mkdir(parents=True)
    (into / "lib").mkdir()
    library = into / "lib" / "python3.12"
    shutil.copytree(
        prefix / "lib" / "python3.12", library, symlinks=True,
        ignore=shutil.ignore_patterns(*WITHOUT, *WITHOUT_MODULES, "site-packages", "__pycache__", "*.a"),
    )  # fmt: skip
    packages = library / "site-packages"
    packages.mkdir()
    # pip alone: other packages, and .pth files above all, belong to this machine.
    for part in (prefix / "lib" / "python3.12" / "site-packages").glob("pip*"):
        shutil.copytree(part, packages / part.name, ignore=shutil.ignore_patterns("__pycache__"))
    for shared in (prefix / "lib").glob("libpython3*.so*"):
        shutil.copy2(shared, into / "lib" / shared.name, follow_symlinks=False)
    shutil.copy2((prefix / "bin" / "python3.12").resolve(), into / "bin" / "python3.12")
    for name in ("python3", "python"):
        (into / "bin" / name).symlink_to("python3.12")
    for name in ("pip", "pip3", "pip3.12"):
        _write_pip(into / "bin" / name)
    _fit_libraries(into, prefix)


def _write_pip(script: Path) -> None:
    script.write_text(
        "#!/usr/local/bin/python3.12\nimport sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n"
    )
    script.chmod(0o755)


def _fit_libraries(root: Path, prefix: Path) -> None:
    interpreter = root / "bin" / "python3.12"
    shared = [file for file in (root / "lib").glob("libpython3.12.so.*") if not file.is_symlink()]
    strip(interpreter, *shared, *(root / "lib" / "python3.12" / "lib-dynload").glob("*.so"))
    # After strip: it breaks files that patchelf has changed.
    set_rpath("$ORIGIN/../lib", interpreter)
    for settings in (root / "lib" / "python3.12").glob("_sysconfigdata*.py"):
        settings.write_text(settings.read_text().replace(str(prefix), "/usr/local"))
