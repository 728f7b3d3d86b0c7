"""How commands become root's: at no cost for a root login, by sudo without a password for others."""

from __future__ import annotations

from kbpg.errors import AccessDenied
from kbpg.hosts.config import Target
from kbpg.hosts.link import Link


def way_to_root(link: Link, target: Target) -> tuple[str, ...]:
    """Return what to put before commands so that they run as root: nothing, or sudo.

    Nothing too when the inventory says `sudo: false`. Raises `AccessDenied` when sudo wants a password.
    """
    if target.user == "root":
        return ()
    output = bytearray()
    line = "id -u; sudo -n -- id -u 2>&1" if target.sudo else "id -u"
    with link.session(line, target.connect_timeout, lambda: line) as session:
        session.feed(b"")
        for _, data in session.output():
            output += data
    answers = output.decode(errors="replace").split("\n")
    if answers[0] == "0" or not target.sudo:
        return ()
    # Not only: sudo also complains, and goes on, when the host's own name cannot be resolved.
    if "0" in answers[1:]:
        return ("sudo", "-n", "--")
    raise AccessDenied(
        link.name,
        f"{target.user} may not become root without a password",
        detail=[line for line in answers[1:] if line.strip()],
        hint=f"with visudo add `{target.user} ALL=(ALL) NOPASSWD: ALL`, or set `ssh.user: root`",
    )
