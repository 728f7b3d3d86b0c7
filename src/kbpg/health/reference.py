"""docs/findings.md, made from the catalogue: `python -m kbpg.health.reference > docs/findings.md`."""

from __future__ import annotations

from collections.abc import Iterable

from kbpg.health.catalogue import ALL
from kbpg.health.check import Check
from kbpg.health.finding import Action, Severity

_HEAD = (
    "# Findings\n\n"
    "What `kbpg diagnose` can find, made from the code (`python -m kbpg.health.reference`). Each finding says what "
    'was seen, why it matters, the evidence, and the command that mends it; where it says "or let kbpg", '
    "`kbpg diagnose --repair` does it. A finding that another one explains is not shown by itself, but named "
    "there.\n\n"
    "Severities: **critical** (exit code 1): something does not serve, or data is at risk. **warning** (exit code "
    "3): it serves, and something should be done. **notice** (exit code 0): a known risk that is mitigated.\n\n"
    "The severity below is the usual one; a check may find a milder or a worse case, and then says so.\n"
)


def markdown() -> str:
    """Return the whole document."""
    lines = [_HEAD, "| finding | what | severity |", "|---|---|---|"]
    lines += [f"| [`{check.id}`](#{check.id}) | {check.title} | {check.severity} |" for check in ALL]
    for severity in sorted(Severity, reverse=True):
        for check in ALL:
            if check.severity is severity:
                lines += _page(check)
    lines += ["", "## What `--repair` can do", "", *_actions(), ""]
    return "\n".join(lines)


def _page(check: Check) -> Iterable[str]:
    yield from ("", f"## {check.id}", "", f"**{check.title}** · {check.severity}", "")
    yield f"{_sentence(check.why)}."
    yield ""
    yield f"Mend: `{check.remedy.replace('{kbpg}', 'kbpg').replace('{host}', 'HOST')}`"
    known = [cause for cause in dict.fromkeys(check.explained_by) if any(cause == each.id for each in ALL)]
    known = [cause for cause in known if cause != check.id]
    if known:
        yield ""
        yield f"Not shown by itself where one of these explains it: {', '.join(f'[`{c}`](#{c})' for c in known)}."


def _actions() -> Iterable[str]:
    yield "It does one thing at a time, says what, asks (unless `--yes`), and looks again after each. Never does it "
    yield "remove data without a healthy leader of the same system identifier, touch a leader's data, restart two "
    yield "nodes at once, or make new credentials."
    yield ""
    yield from (f"- `{action}`" for action in Action)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown())
