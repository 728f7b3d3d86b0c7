"""Values that mean something to some language, and readers of the languages that have no library here.

Each reader follows the documented rules of the program that reads the file, and refuses what that would refuse.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hypothesis import strategies as st

PIECES = (
    *"'\"\\$%`;#&|<>(){}[]*?!~^=:,@+-. \t",
    *(
        "\\'",
        "''",
        '""',
        "$(x)",
        "${x}",
        "$$",
        "%s",
        "%%",
        "{{ x }}",
        "{% x %}",
        "--",
        "/*",
        "*/",
        ": ",
        " #",
    ),
    *(
        "$kbpg$",
        "&amp;",
        "]]>",
        "</script>",
        "```",
        "](",
        "yes",
        "null",
        "0x10",
        "1:30",
        "~/",
        "../",
        "-c",
        "a",
        "ü",
    ),
    # Some are other characters once Unicode has normalised them, as SCRAM does
    *("€", "😀", "\u0301", "e", "ﬁ", "0", "x" * 300),
)
LINES = ("\n", "\r\n", "\n- ", "\n[x]\n", "\n}", "\x85", "\u2028", "\ufeff", "\x1b[31m", "\x07")
"""More, where a value may have line ends and control characters."""


def _joined(pieces: tuple[str, ...]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(pieces), min_size=1, max_size=8).map("".join)


one_line = _joined(PIECES) | st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), include_characters=" "),
    min_size=1,
    max_size=40,
)
"""Printable text on one line."""
anything = _joined(PIECES + LINES) | st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40
)
"""Text with line ends and control characters, but for NUL."""


# --- PgBouncer -------------------------------------------------------------------------------------------


def ini(text: str) -> dict[str, dict[str, str]]:
    """Read pgbouncer.ini as libusual's cfparser.c does: keys of [A-Za-z0-9_.*-], values to the line's end."""
    found: dict[str, dict[str, str]] = {}
    section: dict[str, str] | None = None
    for line in text.split("\n"):
        line = line.strip(" \t\r")
        if not line or line[0] in ";#":
            continue
        if line.startswith("%include"):
            raise ValueError("an include")
        if line.startswith("["):
            name = re.fullmatch(r"\[([^\]]*)\]", line)
            if name is None or name[1] in found:
                raise ValueError(f"no section, or one again: {line}")
            section = found[name[1]] = {}
            continue
        pair = re.fullmatch(r"([A-Za-z0-9_.*-]+)[ \t]*=[ \t]*(.*)", line)
        if pair is None or section is None or pair[1] in section:
            raise ValueError(f"no setting, or one again: {line}")
        section[pair[1]] = pair[2]
    return found


def connection(text: str) -> dict[str, str]:
    """Read a value of [databases] or [peers] as PgBouncer's loader.c does (cstr_get_pair)."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        if text[at] in " \t":
            at += 1
            continue
        key = re.compile(r"([a-z_]+)[ \t]*=[ \t]*").match(text, at)
        if key is None or key[1] in found:
            raise ValueError(f"no pair, or one again: {text[at:]}")
        value = re.compile(r"'((?:[^']|'')*)'(?=[ \t]|$)|([^' \t]+)").match(text, key.end())
        if value is None:
            raise ValueError(f"no value: {text[key.end() :]}")
        found[key[1]] = value[1].replace("''", "'") if value[1] is not None else value[2]
        at = value.end()
    return found


def userlist(text: str) -> dict[str, str]:
    """Read userlist.txt as PgBouncer's loader.c does (load_auth_file): two fields a line, `""` for a quote."""
    found = {}
    for line in text.split("\n"):
        if not line.strip() or line.startswith(";"):
            continue
        fields = re.fullmatch(r'"((?:[^"]|"")*)"[ \t]+"((?:[^"]|"")*)"[^"]*', line)
        if fields is None:
            raise ValueError(f"no two fields: {line}")
        found[fields[1].replace('""', '"')] = fields[2].replace('""', '"')
    return found


# --- HAProxy ---------------------------------------------------------------------------------------------


def haproxy(text: str) -> list[list[str]]:
    """Read haproxy.cfg as its manual's section 2.2 says: the words of each line that has any."""
    return [words for line in text.split("\n") if (words := list(_words(line)))]


def _words(line: str) -> Iterator[str]:
    word: str | None = None
    at = 0
    while at < len(line):
        sign = line[at]
        if sign == "#":
            break
        if sign in " \t":
            if word is not None:
                yield word
            word = None
        elif sign == "'":
            end = line.index("'", at + 1)
            word, at = (word or "") + line[at + 1 : end], end
        elif sign == '"':
            raise ValueError("weak quotes, in which variables are expanded")
        elif sign == "\\":
            at += 1
            word = (word or "") + line[at]
        else:
            word = (word or "") + sign
        at += 1
    if word is not None:
        yield word


# --- SQL -------------------------------------------------------------------------------------------------

_SQL = re.compile(
    r"""(?P<space>\s+|--[^\n]*)
      | [eE]'(?P<escaped>(?:[^'\\]|''|\\.)*)'
      | '(?P<literal>(?:[^']|'')*)'
      | "(?P<name>(?:[^"]|"")+)"
      | \$(?P<tag>[a-z]*)\$(?P<body>.*?)\$(?P=tag)\$
      | (?P<word>[A-Za-z_][A-Za-z0-9_$]*|[0-9.]+)
      | (?P<sign>[-+*/<>=~!@%^&|`?(),;.:\[\]$])""",
    re.VERBOSE | re.DOTALL,
)


def sql(text: str) -> list[tuple[str, str]]:
    """Read SQL as PostgreSQL's lexer does (manual, 4.1): kinds (literal, name, body, word, sign) and values."""
    found = []
    at = 0
    while at < len(text):
        token = _SQL.match(text, at)
        if token is None:
            raise ValueError(f"no token: {text[at : at + 30]}")
        at = token.end()
        kind = token.lastgroup or ""
        value = token[kind]
        if kind == "escaped":
            kind = "literal"
            value = re.sub(r"''|\\(.)", lambda each: each[1] or "'", value, flags=re.DOTALL)
        elif kind in ("literal", "name"):
            quote = "'" if kind == "literal" else '"'
            value = value.replace(quote * 2, quote)
        if kind != "space":
            found.append((kind, value))
    return found


# --- Dockerfiles -----------------------------------------------------------------------------------------


def instructions(text: str) -> list[tuple[str, str]]:
    r"""Read a Dockerfile: instructions and their arguments; a line that ends with \ goes on, comments go."""
    lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\s*\n", "", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.split("\n"))]


def label(text: str) -> str:
    """Read the value of a LABEL in double quotes as the builder does; quote, $ and backslash are escaped."""
    body = re.fullmatch(r'[a-z.]+="((?:[^"\\$]|\\["\\$])*)"', text)
    if body is None:
        raise ValueError(f"not one quoted value: {text}")
    return re.sub(r"\\(.)", r"\1", body[1])
