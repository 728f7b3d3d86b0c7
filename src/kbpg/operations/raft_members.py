"""Removing a member from the consensus, for good: a ghost that counts for the quorum and never votes."""

from __future__ import annotations

import time

from kbpg.engine.site import Site
from kbpg.errors import NotConverged, Refused
from kbpg.facts import NotKnown
from kbpg.raft_admin import Consensus, consensus, member_fact, tell, why_not_remove

DEADLINE = 20.0
"""Seconds for all members to have forgotten the removed one; measured: under 1 s."""
INTERVAL = 0.5
"""Seconds between two looks; the removal is asked for again each time, because a member refuses it while
another change of the members, or the first entry of a new leader, is not committed (`__changeCluster`)."""


def look(site: Site) -> Consensus:
    """Ask every connected db host's member now."""
    context = site.context
    return consensus(site.look(dict.fromkeys(context.db_names, (member_fact(context),))), context)


def remove_member(site: Site, address: str) -> Consensus:
    """Remove `address` ("address:port") and return what the members say afterwards.

    Raises `Refused` where it may not go, `NotConverged` where a member still counts it at the deadline.
    """
    ends, seen, said = time.monotonic() + DEADLINE, look(site), "nothing"
    if why := why_not_remove(seen, address):
        raise Refused(
            f"{address} is not removed: {why}", hint="kbpg raft status shows all members side by side"
        )
    while address in _counted(seen):
        if time.monotonic() > ends:
            raise NotConverged(
                f"{address} is still counted by {', '.join(seen.ghosts.get(address, _counted(seen)[address]))}",
                detail=[f"the last answer to the removal was: {said}"],
            )
        said = _ask(site, seen, address)
        time.sleep(INTERVAL)
        seen = look(site)
    return seen


def _ask(site: Site, seen: Consensus, address: str) -> str:
    """Ask a member with a quorum, Raft's leader where it can be told, and return its answer."""
    leaders = [name for name in seen.with_quorum if seen.answering[name].state == "leader"]
    names = leaders or seen.with_quorum
    if not names:
        return "no member sees a quorum now"
    try:
        return str(tell(site.context, site.hosts[names[0]], ["remove", address]))
    except NotKnown as silence:
        return silence.reason


def _counted(seen: Consensus) -> dict[str, list[str]]:
    """Return who counts each member, besides itself."""
    found: dict[str, list[str]] = {}
    for name, status in seen.answering.items():
        for partner in status.partners:
            found.setdefault(partner, []).append(name)
    return found
