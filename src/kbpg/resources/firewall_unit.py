"""What loads the firewall's rules when a host boots: a systemd unit, where systemd runs the host."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from kbpg.engine.site import Site
from kbpg.facts import Facts, NotKnown, ShellFact
from kbpg.firewall.policy import UNIT
from kbpg.hosts.port import Output
from kbpg.model import ABSENT, Absent, Change, Resource, Want

PATH = f"/etc/systemd/system/{UNIT}"
_NO_UNIT, _NO_SYSTEMD = 44, 45

REMOVE = r"""
[ -d /run/systemd/system ] && systemctl disable --now "$2" 2>/dev/null
rm -f "$1" || exit
[ ! -d /run/systemd/system ] || systemctl daemon-reload
"""


@dataclass(frozen=True)
class Unit:
    """The unit as it is; `text` None where there is none. `systemd`: whether it runs the host."""

    systemd: bool
    text: str | None = None
    enabled: str = ""
    active: str = ""


@dataclass(frozen=True)
class UnitFact(ShellFact[Unit]):
    """The unit's file, whether it is enabled, and whether it is active."""

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return "firewall unit"

    @property
    def script(self) -> str:
        """Return the fragment: two words of systemctl, then the file."""
        return (
            f"[ -d /run/systemd/system ] || exit {_NO_SYSTEMD}; [ -e {PATH} ] || exit {_NO_UNIT}; "
            f"for asked in is-enabled is-active; do printf '%s\\n' \"$(systemctl $asked {UNIT} 2>/dev/null)\"; done; "
            f"cat {PATH}"
        )

    def parse(self, output: Output) -> Unit:
        """Read the answer."""
        if output.status == _NO_SYSTEMD:
            return Unit(systemd=False)
        if output.status == _NO_UNIT:
            return Unit(systemd=True)
        if not output.ok:
            raise NotKnown(f"{PATH} cannot be read: {output.stderr.strip() or output.status}")
        enabled, active, text = output.stdout.split("\n", 2)
        return Unit(True, text, enabled or "unknown", active or "unknown")


class FirewallUnit(Resource):
    """The unit has this content, is enabled and active; with `content` None, or without systemd, there is none."""

    id = f"unit:{UNIT}"

    def __init__(self, content: bytes | None = None) -> None:
        self._content = content
        self._fact = UnitFact()
        self.facts = (self._fact,)

    def want(self, facts: Facts) -> Want:
        """Return that it is there and in force; or that it is not."""
        if self._content is None or not facts.get(self._fact).systemd:
            return ABSENT
        return {"content": _digest(self._content), "at boot": "enabled", "now": "active"}

    def have(self, facts: Facts) -> Want:
        """Return how it is."""
        found = facts.get(self._fact)
        if found.text is None:
            return ABSENT
        return {"content": _digest(found.text.encode()), "at boot": found.enabled, "now": found.active}

    def fix(self, site: Site, change: Change) -> None:
        """Write, enable and start it (which loads the file's rules again, all in one); or remove it."""
        if isinstance(change.want, Absent):
            site.host.run(["sh", "-c", REMOVE, "kbpg-firewall", PATH, UNIT])
            return
        site.host.write(PATH, self._content or b"", owner="0:0", mode=0o644)
        site.host.run(["systemctl", "daemon-reload"])
        site.host.run(["systemctl", "enable", "--now", UNIT])


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
