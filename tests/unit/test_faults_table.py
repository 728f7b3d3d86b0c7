"""docs/faults.md is what the lab tests recorded, and they recorded every fault that there is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.lab import faults_table
from tests.lab.test_findings import FAULTS

from kbpg.health import catalogue

LAB = Path(faults_table.__file__).parent
DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"


def test_the_document_is_current() -> None:
    wanted = faults_table.markdown()
    assert DOCUMENT.read_text() == wanted, "python -m tests.lab.faults_table > docs/faults.md"


def test_every_fault_that_there_is_was_recorded() -> None:
    known = json.loads(faults_table.RECORD.read_text())
    assert {how: each["id"] for how, each in known.items()} == {f.how: f.id for f in FAULTS}


def test_every_finding_is_in_the_table_or_named_above_it() -> None:
    rows = {each["id"] for each in json.loads(faults_table.RECORD.read_text()).values()}
    named = [*rows, *faults_table.ELSEWHERE, *faults_table.UNITS]
    assert sorted(named) == sorted(check.id for check in catalogue.ALL)


@pytest.mark.parametrize("id_", faults_table.ELSEWHERE)
def test_the_lab_test_that_is_named_for_a_finding_looks_at_it(id_: str) -> None:
    shown = {"pause-unfinished": "the guard let the clients of pgbouncer go on"}
    text = (LAB / faults_table.ELSEWHERE[id_]).read_text()
    assert shown.get(id_, f'"{id_}"') in text or f": {id_}" in text


def test_nothing_of_the_machine_is_in_it() -> None:
    text = faults_table.RECORD.read_text()
    assert "/home/" not in text
    assert "inventory.yaml" not in text
