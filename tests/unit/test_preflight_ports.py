"""Who holds a port, where processes come and go while they are looked at."""

from __future__ import annotations

from kbpg.hosts.port import Output
from kbpg.resources.preflight.ports import PortsFact


def test_a_child_that_is_gone_does_not_make_the_port_somebody_else_s() -> None:
    """PostgreSQL forks: a backend holds the listening socket for a moment, and ends before its groups are read."""
    ours = "a" * 64
    line = 'LISTEN 0 200 10.1.0.1:5432 0.0.0.0:* users:(("postgres",pid=77,fd=6),("postgres",pid=42,fd=6))'
    text = f"{line}\ncgroup 42 5:devices:/docker/{ours}\ncgroup 0 5:devices:/\n"
    (found,) = PortsFact((5432,)).parse(Output(0, text)).listeners
    assert (found.pid, found.containers) == (42, (ours,))


def test_a_socket_whose_holders_are_all_gone_names_nobody() -> None:
    line = 'LISTEN 0 200 10.1.0.1:5432 0.0.0.0:* users:(("postgres",pid=77,fd=6))'
    (found,) = PortsFact((5432,)).parse(Output(0, f"{line}\ncgroup 0 5:devices:/\n")).listeners
    assert (found.pid, found.process, found.containers) == (0, "", ())
