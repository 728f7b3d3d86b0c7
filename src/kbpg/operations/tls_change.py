"""From `tls: off` to `require`, or back, without an outage: whether the hosts still speak the other mode.

First everything is made to accept both, then everything to want the new one (docs/adr/0020-tls-modes.md). Each file
of configuration says for which mode it was written, so a change that was broken off goes on where it was.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from kbpg.context import Context
from kbpg.errors import HostError, Refused
from kbpg.facts import NotKnown, ShellFact
from kbpg.hosts.port import Output, Reader
from kbpg.layout import layout
from kbpg.tls import other

BEFORE = "off"
"""What a file says that says nothing: it was written by a kbpg that did not know TLS."""


@dataclass(frozen=True)
class ModesFact(ShellFact[frozenset[str]]):
    """For which modes those of `paths` that exist were written."""

    paths: tuple[str, ...]
    live = True

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"tls:{','.join(self.paths)}"

    @property
    def script(self) -> str:
        """Return the fragment."""
        names = " ".join(map(shlex.quote, self.paths))
        return (
            f'for file in {names}; do [ -e "$file" ] || continue; '
            "sed -n 's/^[#;] tls: /is /p;5q' \"$file\" | grep . || echo is; done"
        )

    def parse(self, output: Output) -> frozenset[str]:
        """Read the answer: a line a file."""
        if not output.ok:
            raise NotKnown("the configuration cannot be read")
        return frozenset(
            line[2:].strip() or BEFORE for line in output.stdout.splitlines() if line[:2] == "is"
        )


def _patroni(context: Context) -> str:
    return f"{layout(context).patroni}/patroni.yml"


def _fact(context: Context) -> ModesFact:
    paths = layout(context)
    return ModesFact(
        (
            _patroni(context),
            f"{paths.haproxy}/haproxy.cfg",
            f"{paths.pgbouncer}/pgbouncer.ini",
        )
    )


def modes(context: Context, hosts: Mapping[str, Reader]) -> list[frozenset[str]]:
    """Return for which modes the files on each host were written. Raises `HostError`."""
    with ThreadPoolExecutor(len(hosts) or 1, thread_name_prefix="tls") as pool:
        return list(pool.map(partial(_ask, _fact(context)), hosts.values()))


def _ask(fact: ModesFact, host: Reader) -> frozenset[str]:
    try:
        return fact.parse(host.read([fact])[fact.key])
    except NotKnown as error:
        raise HostError(host.name, error.reason) from error


def changes(context: Context, hosts: Mapping[str, Reader]) -> bool:
    """Return whether some host is still as the other mode wants it. Raises `HostError`.

    While any host is not yet as this mode wants it, what the hosts trust says that `tls` is changing.
    """
    mode, found = context.inventory.tls.mode, modes(context, hosts)
    # A cluster that is taken over may have its files elsewhere, and knows nothing of this authority
    foreign = context.adopting and not all(found) and mode != BEFORE
    for trust in [host.trust for host in hosts.values() if host.trust]:
        trust.changing = foreign or any(each - {mode} for each in found)
    return foreign or any(other(mode) in each for each in found)


def in_clear(context: Context, host: Reader) -> bool:
    """Return whether Patroni on `host` may rightly not speak TLS, so that a password may go to it in clear.

    So it is while this run changes `tls`, and where its configuration was not yet written for the new mode. Raises
    `HostError`.
    """
    if host.trust and host.trust.changing:
        return True
    fact = ModesFact((_patroni(context),))
    return bool(_ask(fact, host) - {context.inventory.tls.mode})


def refuse_part(context: Context, part: str) -> None:
    """Raise `Refused`: a change of `tls` is made everywhere, or nowhere."""
    raise Refused(
        f"tls: {context.inventory.tls.mode} is new to these hosts: {part} would change a part of them",
        hint="kbpg apply-all",
    )
