"""Files: content, owner and mode; those with secrets are compared by a keyed hash and never shown."""

from __future__ import annotations

import difflib
import hashlib
import hmac
import secrets
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.facts import Fact, Facts, NotKnown, ShellFact
from kbpg.hosts.port import Joint, Output
from kbpg.model import ABSENT, Absent, Change, Impact, Resource, State, Want
from kbpg.resources.paths import NOTHING_THERE, statted

_STAT = "-c '%u:%g %a'"
RUN_KEY = secrets.token_hex(16)
"""Keys the digests of files with secrets: one that leaks is worth nothing outside this run."""
DIFF_LINES = 40
"""A plan shows at most so many lines of a file's difference."""


@dataclass(frozen=True)
class FileState:
    """What is at a path: owner "uid:gid", mode, digest, and the text unless the file is secret."""

    owner: str
    mode: int
    digest: str
    text: str | None


@dataclass(frozen=True)
class FileFact(ShellFact[FileState | None]):
    """What is at `path`; None when nothing is there."""

    path: str
    secret: bool = False
    kind: ClassVar[str] = "file"

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"file:{self.path}"

    @property
    def script(self) -> str:
        """Return the fragment: a line from stat, and the content or, of what is secret, a digest."""
        path = shlex.quote(self.path)
        return f"[ -e {path} ] || exit {NOTHING_THERE}; stat {_STAT} {path} && {self._content}"

    @property
    def _content(self) -> str:
        path = shlex.quote(self.path)
        return f"{{ printf %s '{RUN_KEY}'; cat {path}; }} | sha256sum" if self.secret else f"cat {path}"

    @staticmethod
    def together(questions: Sequence[FileFact]) -> Joint:
        """Return how many of them are asked at once."""
        contents = [question._content for question in questions]
        return statted([question.path for question in questions], _STAT, contents)

    def parse(self, output: Output) -> FileState | None:
        """Read the answer."""
        if output.status == NOTHING_THERE:
            return None
        if not output.ok:
            raise NotKnown(f"{self.path} cannot be read: {output.stderr.strip() or output.stdout.strip()}")
        stat, _, rest = output.stdout.partition("\n")
        owner, mode = stat.split()
        if self.secret:
            return FileState(owner, int(mode, 8), rest.split()[0], None)
        return FileState(owner, int(mode, 8), digest(rest.encode()), rest)


def digest(content: bytes, *, secret: bool = False) -> str:
    """Return the digest of what `FileFact` finds: of a secret file, the one that the host computes."""
    key = RUN_KEY.encode() if secret else b""
    return hashlib.sha256(key + content).hexdigest()


Check = Callable[[Site, bytes], None]
Content = bytes | Callable[[Facts], bytes]
Sources = Sequence[tuple[str, Fact[object]]]


class File(Resource):
    """A file with this content, or with what a pure function makes of the facts in `sources`; text in UTF-8, unless
    it is secret: then any bytes.

    `check`: called with the content before it is put in place; raises `KbpgError` when the program that will
    read it would not. `marker`: the path of the `Loaded` marker that a new content makes void; it is removed
    first, so that a run that dies in between leaves the reload to be done. `impact`: what a new content
    means for the program that reads it. `absent`: a pure function of the facts; where it is true, nothing must be
    at `path`, and what is there is removed.
    """

    def __init__(
        self,
        path: str,
        content: Content,
        *,
        owner: str = "0:0",
        mode: int = 0o644,
        secret: bool = False,
        check: Check | None = None,
        marker: str | None = None,
        impact: Impact = Impact.NONE,
        sources: Sources = (),
        absent: Callable[[Facts], bool] | None = None,
    ) -> None:
        self.id = f"file:{path}"
        self.path, self._content, self.owner, self.mode = path, content, owner, mode
        self.secret, self._check, self._marker, self._impact = secret, check, marker, impact
        self._sources, self._absent = tuple(sources), absent
        self._fact = FileFact(path, secret)
        self.facts = (self._fact,)

    def asks(self, place: str, context: Context) -> Iterable[tuple[str, Fact[object]]]:
        """Ask for the file here, and for what its content depends on."""
        return [(place, self._fact), *self._sources]

    def content(self, facts: Facts) -> bytes:
        """Return what must be in the file. Raises `NotKnown`."""
        return self._content if isinstance(self._content, bytes) else self._content(facts)

    def want(self, facts: Facts) -> Want:
        """Return owner, mode and the digest (or only that it matches); or that nothing must be there."""
        if self._absent and self._absent(facts):
            return ABSENT
        return self._state(self.owner, self.mode, self._digest(facts), facts)

    def have(self, facts: Facts) -> Want:
        """Return what the host has."""
        found = facts.get(self._fact)
        return self._state(found.owner, found.mode, found.digest, facts) if found else ABSENT

    def _digest(self, facts: Facts) -> str:
        return digest(self.content(facts), secret=self.secret)

    def _state(self, owner: str, mode: int, found: str, facts: Facts) -> State:
        content = found[:12]
        if self.secret:
            content = "matches" if hmac.compare_digest(found, self._digest(facts)) else "differs"
        return {"content": content, "owner": owner, "mode": f"{mode:04o}"}

    def impact(self, change: Change, facts: Facts) -> Impact:
        """Return what the reader of the file does about it; nothing for a file that nobody has read yet."""
        return self._impact if not isinstance(change.have, Absent) else Impact.NONE

    def diff(self, change: Change, facts: Facts) -> list[str]:
        """Return the difference; of a file that is no secret line by line."""
        found = facts.known(self._fact)
        hidden = self.secret or isinstance(change.want, Absent) or "content" not in change.names()
        if hidden or found is None or found.text is None:
            return change.lines()
        lines = list(
            difflib.unified_diff(
                found.text.splitlines(), self.content(facts).decode().splitlines(), lineterm="", n=0
            )
        )[2:]
        shown = [line for line in lines if not line.startswith("@@")]
        more = [f"… {len(shown) - DIFF_LINES} more lines"] if len(shown) > DIFF_LINES else []
        return [line for line in change.lines() if not line.startswith("content")] + shown[:DIFF_LINES] + more

    def fix(self, site: Site, change: Change) -> None:
        """Write the file, or only set owner and mode, or remove it."""
        if isinstance(change.want, Absent):
            site.host.run(["rm", "-f", self.path])
            return
        if change.only("owner", "mode"):
            site.host.run(["chown", self.owner, self.path])
            site.host.run(["chmod", f"{self.mode:04o}", self.path])
            return
        content = self.content(site.facts)
        if self._check:
            self._check(site, content)
        if self._marker:
            site.host.run(["rm", "-f", self._marker])
        site.host.write(self.path, content, owner=self.owner, mode=self.mode)
