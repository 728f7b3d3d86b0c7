"""The question for the rules that a host's kernel has."""

from __future__ import annotations

from dataclasses import dataclass

from kbpg.facts import NotKnown, ShellFact
from kbpg.firewall import listing
from kbpg.hosts.port import Output

GUARD = "/run/kbpg-firewall-guard"
"""A file that begins so holds the process that removes rules which kbpg has not confirmed."""
_NO_TABLE, _NO_NFT, _NO_ANSWER = 44, 45, 46


@dataclass(frozen=True)
class Rules:
    """What a host's kernel has in kbpg's table.

    `lines` are in the normal form of `listing`, None without a table. `nft`: whether the program is there. `error` is
    why it does not tell, or "". `unconfirmed`: rules that the host itself will remove, as kbpg was cut off.
    """

    lines: tuple[str, ...] | None = None
    nft: bool = True
    error: str = ""
    unconfirmed: bool = False


@dataclass(frozen=True)
class RulesFact(ShellFact[Rules]):
    """The rules in kbpg's table."""

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return "firewall"

    @property
    def script(self) -> str:
        """Return the fragment: whether a guard waits, whether the table works, and it as JSON."""
        return (
            f"command -v nft >/dev/null || exit {_NO_NFT}; "
            f"tables=$(nft list tables inet) || exit {_NO_ANSWER}; "
            f"printf '%s\\n' \"$tables\" | grep -qx 'table inet {listing.TABLE}' || exit {_NO_TABLE}; "
            f"if ls {GUARD}.* >/dev/null 2>&1; then echo unconfirmed; else echo confirmed; fi; "
            # Not every version's JSON tells that a table is switched off
            f"if nft list table inet {listing.TABLE} | grep -q '^[[:space:]]*flags .*dormant'; then echo dormant; "
            "else echo awake; fi; "
            f"nft -j list table inet {listing.TABLE}"
        )

    def parse(self, output: Output) -> Rules:
        """Read the answer."""
        if output.status == _NO_NFT:
            return Rules(nft=False)
        if output.status == _NO_TABLE:
            return Rules()
        if not output.ok:
            said = (output.stderr.strip() or output.stdout.strip()).splitlines()
            return Rules(error=f"nft does not tell its rules: {said[0] if said else output.status}")
        guard, awake, text = (*output.stdout.split("\n", 2), "", "")[:3]
        try:
            lines = listing.read(text)
            if awake == "dormant":
                lines = ("table dormant", *lines)
            return Rules(lines, unconfirmed=guard == "unconfirmed")
        except ValueError as error:
            raise NotKnown(str(error)) from error
