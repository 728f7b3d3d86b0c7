"""Files from templates: configuration, Dockerfiles and SQL.

Each value goes through the filter of the language it lands in. A `Secret` that meets anything but `reveal` is
an error rather than `***` in a configuration file, and `reveal` works only in the templates named in
SECRET_TEMPLATES, whose files are 0600.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml as pyyaml

import kbpg
from kbpg import tuning
from kbpg.inventory import READ_SUFFIX, read_name, version_tuple
from kbpg.secret import Secret
from kbpg.tls import OLD_SUFFIX

if TYPE_CHECKING:
    from jinja2 import Environment
    from jinja2.runtime import Context

SECRET_TEMPLATES = frozenset({"patroni/secrets.yml.j2", "pgbouncer/userlist.txt.j2"})
"""Templates that may use the filter `reveal`; what they render is written 0600 and never shown."""

_YAML_ESCAPED = re.compile(r"[^ !#-\[\]-~]")
_DOCKER_SPECIAL = re.compile(r'(["\\$])')


def templates_directory() -> Path:
    """Return where the templates are: inside the package (wheel), else at the repository's root."""
    package = Path(kbpg.__file__).resolve().parent
    shipped = package / "templates"
    return shipped if shipped.is_dir() else package.parents[1] / "templates"


def render(name: str, /, **context: Any) -> str:
    """Return the text of template `name` (a path below templates/) for `context`.

    Raises jinja2.UndefinedError for a name the context lacks, TypeError for a secret outside `reveal`,
    ValueError for a value the target language cannot hold (a line break in an ini file, a NUL in SQL).
    """
    return _environment().get_template(name).render(**context)


def yaml(value: str | int | float | bool | None) -> str:
    """Return one scalar as YAML on one line: strings double-quoted, all that is not printable ASCII escaped.

    YAML's escapes, not JSON's: JSON writes characters beyond U+FFFF as two halves that YAML reads as two.
    """
    value = _shown(value)
    if value is None:
        return "null"
    if not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else str(value)
    return '"' + _YAML_ESCAPED.sub(_yaml_escape, value) + '"'


def yaml_block(value: object) -> str:
    """Return a mapping or list as block YAML in its own order, without a line break at the end."""
    return pyyaml.safe_dump(value, sort_keys=False, default_flow_style=False, width=1000).rstrip("\n")


def sql_literal(value: str) -> str:
    """Return a string constant, whatever standard_conforming_strings says; raises ValueError for a NUL."""
    text = _one(_shown(value), "SQL", "\0")
    quoted = text.replace("'", "''")
    return " E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in text else f"'{quoted}'"


def sql_identifier(value: str) -> str:
    """Return a quoted SQL identifier; PgBouncer's ini file quotes names the same way."""
    return '"' + _one(_shown(value), "SQL", "\0").replace('"', '""') + '"'


def pgbouncer_ini(value: object) -> str:
    """Return a value of a connection string in pgbouncer.ini: single quotes, doubled inside."""
    return "'" + _one(str(_shown(value)), "pgbouncer.ini", "\0\n\r").replace("'", "''") + "'"


def userlist(value: str) -> str:
    """Return a field of PgBouncer's userlist.txt: double quotes, doubled inside."""
    return '"' + _one(_shown(value), "userlist.txt", "\0\n\r").replace('"', '""') + '"'


def haproxy(value: object) -> str:
    """Return a word of haproxy.cfg in strong quotes, in which nothing is special but the quote itself."""
    return "'" + _one(str(_shown(value)), "haproxy.cfg", "\0\n\r").replace("'", "'\\''") + "'"


def dockerfile(value: object) -> str:
    """Return a double-quoted word of a Dockerfile instruction, with variables taken literally."""
    return '"' + _DOCKER_SPECIAL.sub(r"\\\1", _one(str(_shown(value)), "a Dockerfile", "\0\n\r")) + '"'


def reveal(context: Context, secret: Secret) -> str:
    """Return a secret's value; raises TypeError in a template that SECRET_TEMPLATES does not name."""
    if context.name not in SECRET_TEMPLATES:
        raise TypeError(f"{context.name} is no template of a secret file")
    return secret.reveal()


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context  # 50 ms

    from kbpg import compiled

    environment = Environment(
        loader=FileSystemLoader(templates_directory()),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - no HTML; each language has its own filter
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )
    filters = (
        yaml,
        yaml_block,
        sql_literal,
        sql_identifier,
        pgbouncer_ini,
        userlist,
        haproxy,
        dockerfile,
        read_name,
        pass_context(reveal),
        version_tuple,
    )
    environment.filters.update({each.__name__: each for each in filters})
    makers = {Path(__file__), *(Path(each.__code__.co_filename) for each in filters)}
    environment.bytecode_cache = compiled.cache(makers)
    environment.globals.update(
        auth_connections=tuning.AUTH_CONNECTIONS,
        database_connections=tuning.database_connections,
        maintenance_connections=tuning.maintenance_connections,
        old_suffix=OLD_SUFFIX,
        other_connections=tuning.OTHER_CONNECTIONS,
        read_suffix=READ_SUFFIX,
        superuser_connections=tuning.SUPERUSER_CONNECTIONS,
        unlisted_connections=tuning.UNLISTED_CONNECTIONS,
    )
    return environment


def _shown(value: Any) -> Any:
    if isinstance(value, Secret):
        raise TypeError("a secret reaches a file through the filter reveal only")
    return value


def _one(text: str, language: str, refused: str) -> str:
    if any(character in text for character in refused):
        raise ValueError(f"a value holds a character that {language} cannot hold")
    return text


def _yaml_escape(found: re.Match[str]) -> str:
    character = found[0]
    if character in '"\\':
        return "\\" + character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
