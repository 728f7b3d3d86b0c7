"""Firewall rules: kbpg's own table in the kernel is as the inventory says, or is not there."""

from __future__ import annotations

import difflib
import hashlib
import secrets
from collections.abc import Mapping, Sequence

from kbpg.engine.site import Site
from kbpg.errors import CommandFailed, NotConverged
from kbpg.facts import Facts, NotKnown
from kbpg.firewall import listing
from kbpg.firewall.fact import GUARD, RulesFact
from kbpg.firewall.policy import Guarded
from kbpg.model import ABSENT, Absent, Change, Resource, Want

GUARD_SECONDS = 30
"""Seconds until a host opens its ports again by itself, unless kbpg has said that it still gets in; it says so in
one round trip."""

_PATH = "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin\n"
# Tried first, so that nothing has happened when nft refuses. The guard is armed before the rules are there. An
# earlier one is for rules that are replaced now.
_LOAD = (
    _PATH
    + r"""
guard=$1 token=$2 seconds=$3
rules=$(cat)
printf '%s\n' "$rules" | nft -c -f - || exit 1
rm -f "$guard".*
: >"$guard.$token" || exit 1
setsid sh -c '
  sleep "$1"
  rm "$0" 2>/dev/null || exit 0
  nft delete table inet kbpg
' "$guard.$token" "$seconds" >/dev/null 2>&1 </dev/null &
echo $! >"$guard.$token"
printf '%s\n' "$rules" | nft -f - && exit
rm -f "$guard.$token"
exit 1
"""
)
# Whoever removes the file has the say: either the rules stay, or the guard takes them away.
_CONFIRM = r"""
pid=$(cat "$1") && rm "$1" || exit 44
kill -s TERM -- "-$pid" 2>/dev/null || :
"""
REMOVE = (
    _PATH
    + r"""
rm -f "$1".*
nft delete table inet kbpg
"""
)


class FirewallRules(Resource):
    """The kernel has these rules for these ports, and only these; or with `guarded` None no table of kbpg's."""

    id = "firewall"

    def __init__(self, guarded: Sequence[Guarded] | None = None, content: bytes = b"") -> None:
        self._guarded, self._content = guarded, content
        self._fact = RulesFact()
        self.facts = (self._fact,)

    def want(self, facts: Facts) -> Want:
        """Return who reaches each port, and the digest of all rules; or that there must be none."""
        return ABSENT if self._guarded is None else self._state(listing.wanted(self._guarded))

    def have(self, facts: Facts) -> Want:
        """Return the same from the kernel's rules."""
        found = facts.get(self._fact)
        if found.error and self._guarded is not None:
            raise NotKnown(found.error)
        # Where nft cannot even list tables, as without the kernel's module, kbpg cannot have made one
        if found.lines is None:
            return ABSENT
        state = self._state(found.lines)
        return {**state, "unconfirmed": True} if found.unconfirmed else state

    def _state(self, lines: Sequence[str]) -> dict[str, str | int | bool]:
        reach = listing.reach(lines)
        titles = {each.port: each.title for each in self._guarded or ()}
        ports = {title: reach.pop(port, "everyone") for port, title in titles.items()}
        others = {str(port): who for port, who in reach.items()}
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
        return {**ports, **others, "rules": f"{len(lines)} lines, {digest}"}

    def diff(self, change: Change, facts: Facts) -> list[str]:
        """Return who will reach each port; where that stays the same, the rules that differ."""
        if isinstance(change.want, Absent):
            return ["remove: every port is open again to whoever reaches the host"]
        if not isinstance(change.have, Mapping):
            return [f"{name}: {who}" for name, who in change.want.items() if name != "rules"]
        lines = [line for line in change.lines() if not line.startswith("rules: ")]
        found = facts.known(self._fact)
        if lines or found is None:
            return lines or change.lines()
        unified = difflib.unified_diff(
            found.lines or (), listing.wanted(self._guarded or ()), n=0, lineterm=""
        )
        return [line for line in [*unified][2:] if not line.startswith("@@")]

    def fix(self, site: Site, change: Change) -> None:
        """Replace the table in one transaction, under a guard; or remove it."""
        if isinstance(change.want, Absent):
            site.host.run(["sh", "-c", REMOVE, "kbpg-firewall", GUARD])
            return
        load(site, self._content)


def load(site: Site, content: bytes, seconds: float = GUARD_SECONDS) -> None:
    """Load rules on the host of `site`, and confirm them by a command of its own.

    Raises `CommandFailed` with nft's words where it refuses them, and then nothing has changed; `NotConverged` where
    the host took them away after `seconds`, because it was not reached in time.
    """
    token = secrets.token_hex(4)
    argv = ["sh", "-c", _LOAD, "kbpg-firewall", GUARD, token, f"{seconds:g}"]
    loaded = site.host.run(argv, stdin=content, check=False)
    if not loaded.ok:
        raise CommandFailed(site.place, "nft -f (the firewall's rules)", loaded.status, loaded.stderr)
    # A command that arrives is the proof that SSH still does
    confirmed = site.host.run(["sh", "-c", _CONFIRM, "kbpg-firewall", f"{GUARD}.{token}"], check=False)
    if not confirmed.ok:
        raise NotConverged(
            f"the host removed the firewall's rules: kbpg did not get back to it within {seconds:g} s",
            hint="every port is open as before; look at the way from here to the host, then run kbpg again",
        )
