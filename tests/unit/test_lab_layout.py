"""Which hosts a lab has, where they are, and which subnets it may take."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from kbpg.errors import UsageError
from kbpg.lab.layout import DEFAULT_SUBNETS, FORBIDDEN, choose_subnet, hosts, in_order, lab_id, parse_subnet

SUBNET = IPv4Network("172.29.77.0/24")


def test_the_five_hosts_keep_the_last_numbers_of_the_mission() -> None:
    assert [(h.container, h.role, h.address) for h in hosts(SUBNET)] == [
        ("kbpg-db-master-01", "db", "172.29.77.120"),
        ("kbpg-db-slave-01", "db", "172.29.77.121"),
        ("kbpg-db-slave-02", "db", "172.29.77.122"),
        ("kbpg-haproxy-01", "proxy", "172.29.77.11"),
        ("kbpg-haproxy-02", "proxy", "172.29.77.12"),
    ]


def test_extra_hosts_get_addresses_that_nobody_has() -> None:
    extra = hosts(SUBNET, ["spare-01", "spare-02"], taken={"172.29.77.200"})[5:]
    assert [(h.name, h.role, h.address) for h in extra] == [
        ("spare-01", "extra", "172.29.77.201"),
        ("spare-02", "extra", "172.29.77.202"),
    ]


def test_too_many_extra_hosts_are_refused() -> None:
    with pytest.raises(UsageError, match="no free address for the extra host h55"):
        hosts(SUBNET, [f"h{n}" for n in range(56)])


def test_a_new_lab_takes_the_first_free_default() -> None:
    assert choose_subnet(None, []) == SUBNET
    assert choose_subnet(None, [IPv4Network("172.29.0.0/16")]) == DEFAULT_SUBNETS[1]
    assert choose_subnet(None, [IPv4Network("172.16.0.0/12")]) == DEFAULT_SUBNETS[3]


def test_no_free_default_asks_for_one() -> None:
    with pytest.raises(UsageError, match="all of the lab's default subnets are in use") as caught:
        choose_subnet(None, DEFAULT_SUBNETS)
    assert caught.value.hint == "give one with --subnet"


def test_the_default_inventory_s_network_is_no_default() -> None:
    assert not any(subnet.overlaps(FORBIDDEN) for subnet in DEFAULT_SUBNETS)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("10.0.0.0/24", "10.0.0.0/24 is the default inventory's network"),
        ("8.8.8.0/24", "must be a private /24"),
        ("172.29.77.0/25", "must be a private /24"),
        ("172.29.0.0/16", "must be a private /24"),
        ("172.20.5.0/24", "172.20.5.0/24 overlaps 172.20.0.0/16"),
    ],
)
def test_subnets_that_are_refused(wanted: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose_subnet(IPv4Network(wanted), [IPv4Network("172.20.0.0/16")])


def test_a_free_private_subnet_is_taken() -> None:
    assert choose_subnet(IPv4Network("172.21.9.0/24"), [SUBNET]) == IPv4Network("172.21.9.0/24")


@pytest.mark.parametrize("text", ["", "172.29.77.0/33", "172.29.77.5/24", "lab", "fd00::/64"])
def test_what_is_not_a_subnet(text: str) -> None:
    with pytest.raises(UsageError, match="not a subnet"):
        parse_subnet(text)


def test_a_lab_s_id_follows_from_its_absolute_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert lab_id(Path(".lab")) == lab_id(tmp_path / ".lab")
    assert lab_id(tmp_path / ".lab") != lab_id(tmp_path / "other")


def test_addresses_are_sorted_by_number() -> None:
    assert in_order(["172.29.77.120", "172.29.77.12", "172.29.77.11"]) == [
        "172.29.77.11",
        "172.29.77.12",
        "172.29.77.120",
    ]
