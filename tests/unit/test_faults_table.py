"""docs/faults.md is what the lab tests recorded, and they recorded every fault that there is."""

from __future__ import annotations

import json
from pathlib import Path

from tests.lab import faults_table
from tests.lab.test_findings import FAULTS

from kbpg.health import catalogue

DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"


def test_the_document_is_current() -> None:
    wanted = faults_table.markdown()
    assert DOCUMENT.read_text() == wanted, "python -m tests.lab.faults_table > docs/faults.md"


def test_what_was_recorded_is_a_fault_that_there_is() -> None:
    known = json.loads(faults_table.RECORD.read_text())
    assert {how: each["id"] for how, each in known.items()}.items() <= {f.how: f.id for f in FAULTS}.items()
    assert {each["id"] for each in known.values()} <= {check.id for check in catalogue.ALL}


def test_nothing_of_the_machine_is_in_it() -> None:
    text = faults_table.RECORD.read_text()
    assert "/home/" not in text
    assert "inventory.yaml" not in text
