"""What a Patroni or a PgBouncer runs with: read from its own configuration, whoever wrote that."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kbpg.facts import NotKnown, ShellFact
from kbpg.hosts.port import Output
from kbpg.layout import PATRONI, PGBOUNCER, POOLER_USER
from kbpg.secret import Secret

NOTHING = 44
"""Exit status of a fragment that finds nothing to read."""

_PROGRAM = """
import json, os
from patroni.config import Config

def arguments(pid):
    with open("/proc/%s/cmdline" % pid, "rb") as file:
        return file.read().decode("utf-8", "replace").split("\\0")

def is_patroni(words):
    return "patroni" in [os.path.basename(word) for word in words[:4]]

path = None
for pid in sorted((p for p in os.listdir("/proc") if p.isdigit()), key=int):
    try:
        words = arguments(pid)
        if not is_patroni(words):
            continue
        with open("/proc/%s/environ" % pid, "rb") as file:
            pairs = file.read().decode("utf-8", "surrogateescape").split("\\0")
        os.environ.update(pair.split("=", 1) for pair in pairs if "=" in pair)
    except OSError:
        continue
    at = [os.path.basename(word) for word in words].index("patroni")
    path = next((word for word in words[at + 1:] if word and not word.startswith("-")), path)

found = Config(path)
raft, postgresql = found.get("raft") or {}, found.get("postgresql") or {}
rest = (found.get("restapi") or {}).get("authentication") or found.get("restapi") or {}
roles = postgresql.get("authentication") or {}
print(json.dumps({
    "scope": found.get("scope"),
    "name": found.get("name"),
    "raft": raft.get("password"),
    "rest": [rest.get("username"), rest.get("password")],
    "roles": {kind: [each.get("username"), each.get("password")] for kind, each in roles.items()},
}))
"""
"""Patroni's own reading of its configuration (patroni/config.py, `Config`): files, directories, environment. It runs
beside the Patroni that is asked about, in its container, with its arguments and its environment."""


@dataclass(frozen=True)
class PatroniInUse:
    """What one Patroni runs with; `rest` is who may change something through its REST API, None for anybody.

    `roles` are PostgreSQL's by what Patroni needs them for: superuser, replication, rewind.
    """

    scope: str
    name: str
    raft: Secret | None
    rest: tuple[str, Secret] | None = None
    roles: Mapping[str, tuple[str, Secret]] = field(default_factory=dict)

    def secrets(self) -> tuple[Secret, ...]:
        """Return every password."""
        logins = [*self.roles.values(), *([self.rest] if self.rest else [])]
        return (*(password for _, password in logins), *([self.raft] if self.raft else []))


@dataclass(frozen=True)
class PatroniInUseFact(ShellFact[PatroniInUse | None]):
    """What the container `patroni` runs with, or, where it does not run, what kbpg wrote for it to `secrets`.

    None where there is neither. Raises `NotKnown` for one whose configuration cannot be read.
    """

    secrets: str

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"in use:{PATRONI}"

    @property
    def script(self) -> str:
        """Return the fragment: the program's JSON, or the file's YAML after a line `file`."""
        interpreter = (
            "for p in /proc/[0-9]*; do "
            "w=$(tr '\\0' '\\n' <$p/cmdline 2>/dev/null | head -n 1); "
            'case $w in *python*) echo "$w"; exit;; esac; done; echo python3'
        )
        inside = f"py=$({interpreter}); exec $py -c {shlex.quote(_PROGRAM)}"
        file = shlex.quote(self.secrets)
        return (
            "command -v docker >/dev/null || exit 44; "
            f"s=$(docker container inspect --format '{{{{.State.Status}}}}' {PATRONI} 2>/dev/null); "
            f'if [ "$s" = running ]; then timeout 15 docker exec {PATRONI} sh -c {shlex.quote(inside)}; exit; fi; '
            f'if [ -r {file} ]; then echo file; cat {file}; exit; fi; [ -z "$s" ] && exit {NOTHING}; '
            'echo "its container is $s" >&2; exit 1'
        )

    def parse(self, output: Output) -> PatroniInUse | None:
        """Read the answer."""
        if output.status == NOTHING:
            return None
        if not output.ok:
            said = (output.stderr.strip().splitlines() or [f"exit status {output.status}"])[-1]
            raise NotKnown(f"what Patroni runs with cannot be read: {said}")
        head, _, rest = output.stdout.partition("\n")
        return _of_file(rest) if head == "file" else _of_program(json.loads(output.stdout))


def _of_program(found: Mapping[str, Any]) -> PatroniInUse:
    roles = {kind: login for kind, pair in found["roles"].items() if (login := _login(*pair))}
    raft = Secret(str(found["raft"])) if found["raft"] else None
    return PatroniInUse(
        str(found["scope"] or ""), str(found["name"] or ""), raft, _login(*found["rest"]), roles
    )


def _of_file(text: str) -> PatroniInUse:
    """Read kbpg's own file; it has no scope and no name."""
    import yaml

    found = yaml.safe_load(text)
    rest = found["restapi"]["authentication"]
    roles = found["postgresql"]["authentication"]
    return _of_program(
        {
            "scope": "",
            "name": "",
            "raft": found["raft"]["password"],
            "rest": [rest["username"], rest["password"]],
            "roles": {kind: [each["username"], each["password"]] for kind, each in roles.items()},
        }
    )


def _login(user: object, password: object) -> tuple[str, Secret] | None:
    return (str(user), Secret(str(password))) if user and password else None


@dataclass(frozen=True)
class PoolerInUseFact(ShellFact[Secret | None]):
    """The password of `POOLER_USER` in PgBouncer's userlist.txt, in its container or at `path`; None without one.

    A file that holds a hash does not tell the password.
    """

    path: str

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"in use:{PGBOUNCER}"

    @property
    def script(self) -> str:
        """Return the fragment."""
        path = shlex.quote(self.path)
        return (
            f"if [ -r {path} ]; then cat {path}; exit; fi; command -v docker >/dev/null && "
            f"timeout 15 docker exec {PGBOUNCER} cat /etc/pgbouncer/userlist.txt 2>/dev/null; true"
        )

    def parse(self, output: Output) -> Secret | None:
        """Read the answer: `"user" "password"` lines, a double quote in them doubled."""
        line = re.compile(rf'^"{POOLER_USER}"\s+"((?:[^"]|"")+)"', re.MULTILINE)
        found = line.search(output.stdout)
        if found is None or re.match(r"md5[0-9a-f]{32}$|SCRAM-SHA-256\$", found[1]):
            return None
        return Secret(found[1].replace('""', '"'))
