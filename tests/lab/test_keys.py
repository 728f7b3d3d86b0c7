"""Host keys: an unknown one is asked about, a changed one stops the run."""

from __future__ import annotations

import pytest
from tests.lab.conftest import Lab

pytestmark = pytest.mark.lab


def test_unknown_key_needs_consent(lab: Lab) -> None:
    known = lab.directory / "known_hosts.test"
    known.unlink(missing_ok=True)
    inventory = lab.edited(lab.directory / "keys.yaml", lambda s: s["ssh"].update(known_hosts=known.name))
    ran = lab.kbpg("plan", inventory=inventory)
    assert ran.code == 1
    assert "SHA256:" in ran.err
    assert "--accept-new-host-keys" in ran.err
    assert not known.exists()
    ran = lab.kbpg("plan", "--accept-new-host-keys", inventory=inventory)
    assert ran.code in (0, 3), ran.everything
    assert len([line for line in known.read_text().splitlines() if line.strip()]) == 5
    assert lab.kbpg("plan", inventory=inventory).code == ran.code


def test_changed_key_always_stops(lab: Lab) -> None:
    known = lab.directory / "known_hosts.changed"
    lines = (lab.directory / "known_hosts").read_text().splitlines()
    keys = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    # the keys of the first two hosts, exchanged
    keys[0][2], keys[1][2] = keys[1][2], keys[0][2]
    known.write_text("".join(" ".join(key) + "\n" for key in keys))
    inventory = lab.edited(lab.directory / "keys.yaml", lambda s: s["ssh"].update(known_hosts=known.name))
    for more in ((), ("--accept-new-host-keys",)):
        ran = lab.kbpg("apply-all", *more, inventory=inventory)
        assert ran.code == 1
        assert "changed" in ran.err
        assert known.name in ran.err
