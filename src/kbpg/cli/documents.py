"""What `--json` prints; the keys are documented in docs/json.md and stay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kbpg.cli.closing import uris
from kbpg.cli.folding import explanation
from kbpg.cli.texts import CHANGES, remarks
from kbpg.context import Context
from kbpg.engine.outcome import Outcome, Report
from kbpg.model import Impact, Status


def planned(report: Report, unmet: Sequence[Outcome]) -> dict[str, Any]:
    """Return a plan."""
    changes = [outcome for outcome in report.of(*CHANGES) if outcome not in unmet]
    return {
        "impact": str(max((outcome.impact for outcome in changes), default=Impact.NONE)),
        "ok": len(report.of(Status.OK)),
        "changes": outcomes(changes),
        "unmet": outcomes(unmet),
        "notes": remarks(report),
    }


def applied(report: Report, context: Context, seconds: float) -> dict[str, Any]:
    """Return what an apply did; resources that were right already are only counted."""
    return {
        "failed": report.failed,
        "seconds": round(seconds, 3),
        "counts": {status.value: len(found) for status in Status if (found := report.of(status))},
        "steps": [{"step": label, "seconds": round(took, 3)} for label, took in report.seconds.items()],
        "outcomes": outcomes(outcome for outcome in report.outcomes if outcome.status is not Status.OK),
        "uris": uris(context),
    }


def outcomes(found: Iterable[Outcome]) -> list[dict[str, Any]]:
    """Return outcomes as all commands show them."""
    return [
        {
            "step": outcome.step.label,
            "place": outcome.place,
            "resource": outcome.resource,
            "status": outcome.status.value,
            "impact": str(outcome.impact),
            "lines": list(explanation(outcome)),
        }
        for outcome in found
    ]
