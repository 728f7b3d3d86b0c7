"""What PostgreSQL data a db host holds, and whether it is this cluster's: read without PostgreSQL, never touched."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from kbpg.facts import NotKnown, ShellFact
from kbpg.hosts.port import Output
from kbpg.resources.identity import read_record


@dataclass(frozen=True)
class DataState:
    """What lies at `path`.

    `present`: whether anything is there at all. `version` is PG_VERSION's, "" without one. `system_identifier` is
    decimal, "" where there is no pg_control (a clone in progress has none until its end). `readable` is False for
    a pg_control that holds no identifier. `modified` is when it was last written, in seconds since 1970.
    """

    path: str
    present: bool
    version: str = ""
    system_identifier: str = ""
    readable: bool = True
    modified: int = 0


@dataclass(frozen=True)
class DataFact(ShellFact[DataState]):
    """The data at `mount`/pgdata, or right in `mount`, where kbpg never puts any.

    The system identifier is the first 8 bytes of global/pg_control (PostgreSQL's catalog/pg_control.h,
    `ControlFileData`), an unsigned integer in the byte order of the machine that wrote it: this one.
    """

    mount: str

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"data:{self.mount}"

    @property
    def script(self) -> str:
        """Return the fragment: path, PG_VERSION, identifier and time, one a line; nothing where nothing is."""
        return (
            f"m={shlex.quote(self.mount)}; p=$m/pgdata; "
            '[ -e "$m/PG_VERSION" ] || [ -e "$m/global/pg_control" ] && p=$m; '
            '[ -n "$(ls -A "$p" 2>/dev/null)" ] || exit 0; '
            'v=; [ -r "$p/PG_VERSION" ] && read -r v <"$p/PG_VERSION"; '
            'c=$p/global/pg_control; i=missing; t=$p; [ -e "$c" ] && t=$c && i=$(od -An -tu8 -N8 "$c" 2>/dev/null); '
            'printf "%s\\n" "$p" "$v" "$i" "$(stat -c %Y "$t")"'
        )

    def parse(self, output: Output) -> DataState:
        """Read the answer."""
        lines = output.stdout.splitlines()
        if not lines:
            return DataState(f"{self.mount}/pgdata", present=False)
        if len(lines) < 4:
            raise NotKnown(f"{self.mount} cannot be read: {output.stderr.strip() or output.stdout.strip()}")
        path, version, control, modified = (line.strip() for line in lines[:4])
        identifier = control if control.isdigit() and int(control) else ""
        readable = bool(identifier) or control == "missing"
        return DataState(path, True, version, identifier, readable, int(modified or 0))


@dataclass(frozen=True)
class Ownership:
    """What a host's own record says: whose it is. Both empty where there is no record."""

    cluster: str = ""
    system_identifier: str = ""

    @classmethod
    def of(cls, text: str | None) -> Ownership:
        """Return what the text of a record says."""
        record = read_record(text)
        return cls(str(record.get("cluster") or ""), str(record.get("system_identifier") or ""))


def judge(data: DataState, record: Ownership, cluster: str, major: int) -> str | None:
    """Return why what is there is not `cluster`'s own, or None.

    A record without identifier is a claim, made where there was no data: what appeared afterwards is ours.
    """
    if record.cluster and record.cluster != cluster:
        return (
            f"this host's record says that it belongs to the cluster {record.cluster}, not to {cluster}; "
            "cluster.name is fixed once the cluster is born"
        )
    if not data.present:
        return None
    what = describe(data)
    if not data.path.endswith("/pgdata"):
        return f"{what}, where kbpg never puts any"
    if not record.cluster:
        return f"{what}, and no record of kbpg's explains it"
    if not data.readable:
        return f"{what}, and its global/pg_control cannot be read"
    if record.system_identifier and data.system_identifier not in ("", record.system_identifier):
        return f"{what}, but this host's record names the identifier {record.system_identifier}"
    if data.version and data.version != str(major):
        return f"{what}, but the inventory wants PostgreSQL {major}"
    return None


def damaged(data: DataState, record: Ownership, cluster: str, major: int) -> bool:
    """Return whether this is `cluster`'s own data by the host's record, and only its pg_control cannot be read.

    The record must name a system identifier: a mere claim does not say whose data is there.
    """
    if not data.present or data.readable or not record.system_identifier:
        return False
    return judge(replace(data, readable=True), record, cluster, major) is None


def describe(data: DataState) -> str:
    """Return what was found, for a message."""
    version = f"PostgreSQL {data.version} data" if data.version else "files without a PG_VERSION"
    identifier = f"system identifier {data.system_identifier or 'unknown'}"
    written = datetime.fromtimestamp(data.modified, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{version} in {data.path} ({identifier}, last written {written})"


def ways_to_look(data: DataState, image: str) -> tuple[str, ...]:
    """Return the commands, to be typed on the host, that show what is there and change nothing."""
    if not data.present:
        return ()
    path = shlex.quote(data.path)
    return (
        f"sudo ls -la {path}",
        f"sudo docker run --rm --network none --user 0 -v {path}:/data:ro --entrypoint pg_controldata "
        f"{image} /data",
    )


def odd_one_out(here: str, identifiers: dict[str, frozenset[str]]) -> str | None:
    """Return how the identifiers of host `here` disagree with those of most hosts, or None.

    `identifiers`: per host what its data and its record name. Without a majority every host is told.
    """
    mine = identifiers.get(here, frozenset())
    votes = {
        i: sum(i in each for each in identifiers.values()) for each in identifiers.values() for i in each
    }
    if not mine or len(votes) <= 1:
        return None
    best = [identifier for identifier, count in votes.items() if count == max(votes.values())]
    if mine == frozenset(best):
        return None
    others = ", ".join(
        f"{'/'.join(sorted(each))} on {name}" for name, each in identifiers.items() if each and name != here
    )
    return f"system identifier {'/'.join(sorted(mine))} here" + (f", {others}" if others else "")
