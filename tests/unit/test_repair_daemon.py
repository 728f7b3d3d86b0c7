"""A Docker daemon is started where it is down, and left alone where only a restart would help."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kbpg.errors import NotConverged, Refused
from kbpg.health.repair import daemon
from kbpg.health.repair.daemon import start_docker
from kbpg.hosts.fake import FakeHost
from kbpg.hosts.port import Output

NO, YES = Output(1, "", ""), Output(0, "", "")


def host(*, systemd: bool = True, active: bool = False, starts: bool = True) -> FakeHost:
    """Return a host whose Docker does not answer until systemctl has started it, if it `starts`."""
    state = {"up": False}

    def sh(_: FakeHost, words: Sequence[str], __: bytes) -> Output:
        assert "systemctl" in words[1]
        return YES if systemd else NO

    def systemctl(_: FakeHost, words: Sequence[str], __: bytes) -> Output:
        if words[0] == "is-active":
            return YES if active else NO
        assert list(words) == ["start", "docker"]
        state["up"] = starts
        return YES

    def docker(_: FakeHost, words: Sequence[str], __: bytes) -> Output:
        assert list(words) == ["version"]
        return YES if state["up"] else NO

    made = FakeHost(name="db-2")
    made.programs.update({"sh": sh, "systemctl": systemctl, "docker": docker})
    return made


def test_a_daemon_that_is_down_is_started() -> None:
    assert start_docker(host()) == "Docker on db-2 was started"


@pytest.mark.parametrize(
    ("fake", "reason"),
    [(host(systemd=False), "not run by systemd"), (host(active=True), "runs and does not answer")],
)
def test_what_kbpg_cannot_judge_is_left_alone(fake: FakeHost, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        start_docker(fake)
    assert ["systemctl", "start", "docker"] not in [list(words) for words in fake.journal]


def test_one_that_does_not_come_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "DEADLINE", -1.0)
    with pytest.raises(NotConverged, match="does not answer"):
        start_docker(host(starts=False))
