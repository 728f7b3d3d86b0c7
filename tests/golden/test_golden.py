"""Rendered files, whole, against the ones kept here.

After a wanted change: KBPG_UPDATE_GOLDEN=1 pytest tests/golden/test_golden.py, and read the diff.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from .cases import CASES, HERE, Case

UPDATE = bool(os.environ.get("KBPG_UPDATE_GOLDEN"))


def kept(case: Case) -> dict[str, Path]:
    directory = HERE / case.name
    inputs = {directory / "inventory.yaml"}
    return {str(p.relative_to(directory)): p for p in directory.rglob("*") if p.is_file() and p not in inputs}


def difference(path: Path, rendered: str) -> Iterator[str]:
    before = path.read_text(encoding="utf-8").splitlines()
    return difflib.unified_diff(before, rendered.splitlines(), str(path), "rendered", lineterm="")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rendered_files_are_the_kept_ones(case: Case) -> None:
    rendered = case.files()
    if UPDATE:
        for path in kept(case).values():
            path.unlink()
        for name, text in rendered.items():
            target = HERE / case.name / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    found = kept(case)
    assert sorted(found) == sorted(rendered)
    differences = [line for name in sorted(rendered) for line in difference(found[name], rendered[name])]
    assert not differences, "\n".join(differences)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_passwords_are_in_the_secret_files_only_and_read_back_as_they_are(case: Case) -> None:
    files = case.files()
    secret = [name for name in files if name.endswith(("secrets.yml", "userlist.txt"))]
    for name in secret:
        text = files.pop(name)
        if name.endswith("secrets.yml"):
            found = yaml.safe_load(text)
            assert found["raft"]["password"] == case.password
            assert {user["password"] for user in found["postgresql"]["authentication"].values()} == {
                case.password
            }
        else:
            assert text == f'"pgbouncer_auth" "{case.password.replace(chr(34), chr(34) * 2)}"\n'
    assert len(secret) == 3
    assert not [name for name, text in files.items() if case.password in text]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_patroni_reads_agrees_with_the_inventory(case: Case) -> None:
    files, inventory = case.files(), case.inventory
    first, last = inventory.db[0], inventory.db[-1]
    settings = [yaml.safe_load(files[f"patroni/{host.name}/patroni.yml"]) for host in (first, last)]
    addresses = {host.address for host in inventory.db}
    for host, found in zip((first, last), settings, strict=True):
        raft = found["raft"]
        assert raft["self_addr"] == raft["bind_addr"] == f"{host.address}:{inventory.ports.raft}"
        assert {raft["self_addr"], *raft["partner_addrs"]} == {
            f"{a}:{inventory.ports.raft}" for a in addresses
        }
        assert raft["self_addr"] not in raft["partner_addrs"]
        assert not found["postgresql"]["remove_data_directory_on_rewind_failure"]
        assert not found["postgresql"]["remove_data_directory_on_diverged_timelines"]
        assert all(
            line.split()[-1] in {"scram-sha-256", "reject", "map=kbpg"}
            for line in found["postgresql"]["pg_hba"]
        )
        assert "bootstrap" not in found
    common = yaml.safe_load(files["patroni/bootstrap.yml"])["bootstrap"]["dcs"]
    quorum = {"default": ("quorum", False, 1), "five": ("quorum", False, 2), "old": (True, True, 1)}[
        case.name
    ]
    names = ("synchronous_mode", "synchronous_mode_strict", "synchronous_node_count")
    assert tuple(common[name] for name in names) == quorum
    assert common["loop_wait"] + 2 * common["retry_timeout"] <= common["ttl"]
