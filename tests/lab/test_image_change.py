"""Another Patroni image, rolled out while twenty clients write through both PgBouncers, and back again.

What changes is the name of the pgvector image, not what is in it: all layers come from Docker's cache, and only
Patroni's image is another one. A build takes seconds then; what takes time is the image's way to three hosts. A
changed `build.revision` would be no use here: its label stands before the packages on purpose, so that it fetches
them anew, in all three images, and a PgBouncer that is replaced cuts off its clients.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from tests.lab.conftest import DB, Lab
from tests.lab.load import Load, Seen
from tests.lab.watching import Watch, watching

pytestmark = [pytest.mark.lab, pytest.mark.faults]

SAME = "kbpg-lab-pgvector:same"
"""A second name of the pgvector image."""
LONGEST = 2.5
"""Seconds that the slowest client may wait."""


def docker(*argv: str, check: bool = True) -> None:
    subprocess.run(["docker", *argv], check=check, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def inventory(converged: Lab) -> Iterator[Path]:
    """The lab's inventory, but with the pgvector image under its second name."""
    images = (converged.settings.get("build") or {}).get("images") or {}
    docker("tag", images.get("pgvector") or "pgvector/pgvector:0.8.1-pg16-trixie", SAME)
    path = converged.edited(
        converged.directory / "image-change.yaml",
        lambda s: s.setdefault("build", {}).setdefault("images", {}).update(pgvector=SAME),
    )
    yield path
    path.unlink()
    docker("rmi", SAME, check=False)
    converged.everywhere("docker image prune -f >/dev/null", DB)


def patronis(lab: Lab) -> dict[str, tuple[str, datetime]]:
    """Return each node's container, and when it was started."""
    found = {host: text.split() for (host, name), text in lab.started().items() if name == "patroni"}
    return {host: (words[0], datetime.fromisoformat(words[1])) for host, words in found.items()}


def images(lab: Lab) -> set[str]:
    """Return what the containers' images are made of, by the label that they have of it."""
    label = "docker inspect --format '{{index .Config.Labels \"kbpg.inputs\"}}' patroni"
    return {text.strip() for text in lab.everywhere(label, DB).values()}


def others(lab: Lab) -> dict[tuple[str, str], str]:
    """Return the containers beside Patroni's, and when they were started."""
    return {key: text for key, text in lab.started().items() if key[1] != "patroni"}


def assert_planned(lab: Lab, inventory: Path, leader: str) -> None:
    """`plan` says what it means for clients: a switchover of the leader, a restart of each of the others."""
    ran = lab.kbpg("plan", "--json", inventory=inventory)
    assert ran.code == 3, ran.everything
    changes = {(each["place"], each["resource"]): each["impact"] for each in json.loads(ran.out)["changes"]}
    assert {place: changes.get((place, "container:patroni")) for place in DB} == {
        host: "switchover" if host == leader else "restart" for host in DB
    }
    assert {resource for _, resource in changes} <= {"container:patroni", "image:patroni", "loaded:patroni"}


def roll(lab: Lab, load: Load, inventory: Path) -> tuple[Watch, Seen, float]:
    load.reset()
    with watching({host: [lab.addresses[host]] for host in DB}) as watch:
        ran = lab.apply(inventory, timeout=500)
        load.go_on_for(1)
    return watch, load.seen(), ran.seconds


@pytest.mark.timeout(900)
def test_another_image_comes_node_by_node_and_goes_again(converged: Lab, inventory: Path, load: Load) -> None:
    lab, original, beside = converged, images(converged), others(converged)
    for wanted in (inventory, lab.inventory):
        lab.await_whole(60)
        leader, before = lab.leader(), patronis(lab)
        assert_planned(lab, wanted, leader)
        watch, seen, seconds = roll(lab, load, wanted)
        print(f"\n{wanted.name}: {seconds:.1f} s, {seen}; away: {', '.join(map(str, watch.absences))}")
        after = patronis(lab)
        assert all(after[host][0] != before[host][0] for host in DB)
        assert max(DB, key=lambda host: after[host][1]) == leader
        assert lab.leader() != leader
        watch.assert_one_at_a_time()
        assert {each.host for each in watch.absences} == set(DB)
        assert len(images(lab)) == 1
        assert (images(lab) == original) == (wanted == lab.inventory)
        assert not seen.errors, seen
        assert seen.worst <= LONGEST, seen
    assert others(lab) == beside
    assert lab.kbpg("plan").code == 0
    assert load.stop().lost == 0
