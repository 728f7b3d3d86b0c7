"""A virtual address moves between the proxies: by `proxy_listen: any` they take clients there, docs/datapath.md."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from pytest_socket import socket_allow_hosts
from tests.conftest import LOOPBACK
from tests.lab.conftest import PROXIES, STATISTICS, Lab

pytestmark = [pytest.mark.lab, pytest.mark.faults]

NUMBER = 141
"""The virtual address's last number: no host of a lab has it."""
PORTS = (5432, 5433, 6432)


@dataclass(frozen=True)
class Virtual:
    """An address that a proxy may have besides its own; `lab` is the lab by an inventory that says so."""

    address: str
    before: Lab
    lab: Lab

    def given_to(self, proxy: str) -> None:
        """Let this proxy have it, and no other."""
        for each in PROXIES:
            self.taken_from(each)
        self.lab.sh(proxy, f"ip addr add {self.address}/24 dev eth0")

    def taken_from(self, proxy: str) -> None:
        self.lab.sh(proxy, f"ip addr del {self.address}/24 dev eth0", check=False)

    def asked(self, port: int) -> Any:
        """Return what a client gets through the address, that trusts nobody but the cluster's authority."""
        credentials = self.lab.credentials
        with psycopg.connect(
            host=self.address,
            port=port,
            dbname="keybuzz",
            user=credentials["POSTGRES_APP_USER"],
            password=credentials["POSTGRES_APP_PASS"],
            connect_timeout=3,
            autocommit=True,
            prepare_threshold=None,
            sslmode="verify-full",
            sslrootcert=str(self.lab.ca),
        ) as connection:
            row = connection.execute("select 1").fetchone()
            return row and row[0]

    def answers(self, port: int) -> bool:
        try:
            return bool(self.asked(port) == 1)
        except psycopg.OperationalError:
            return False

    def open_at(self, port: int) -> bool:
        try:
            socket.create_connection((self.address, port), timeout=3).close()
        except OSError:
            return False
        return True


@pytest.fixture
def virtual(converged: Lab) -> Iterator[Virtual]:
    """An address that the first proxy has; nobody has it afterwards, and the lab is as it was."""
    lab = converged
    address = f"{lab.addresses[PROXIES[0]].rpartition('.')[0]}.{NUMBER}"

    def change(settings: dict[str, Any]) -> None:
        settings["cluster"] |= {"load_balancer": address, "proxy_listen": "any"}

    path = lab.edited(lab.directory / "virtual.yaml", change)
    socket_allow_hosts([*LOOPBACK, *lab.addresses.values(), address], allow_unix_socket=True)
    found = Virtual(address, lab, Lab(lab.directory, path))
    found.given_to(PROXIES[0])
    try:
        yield found
    finally:
        for proxy in PROXIES:
            found.taken_from(proxy)
        lab.apply()
        path.unlink()


@pytest.mark.timeout(600)
def test_clients_come_by_a_virtual_address_wherever_it_is(virtual: Virtual) -> None:
    lab = virtual.lab
    assert not any(virtual.open_at(port) for port in PORTS)  # the reason for the option
    planned = lab.kbpg("plan")
    assert planned.code == 3, planned.everything
    lab.apply()
    assert {port: virtual.asked(port) for port in PORTS} == dict.fromkeys(PORTS, 1)
    assert not virtual.open_at(STATISTICS)
    for proxy in PROXIES:  # and by their own addresses
        for port in PORTS:
            assert lab.one(proxy, port, "select 1") == 1
    assert lab.kbpg("plan").code == 0
    lab.until(lambda: lab.kbpg("diagnose").code == 0, 30, "healthy")
    validated = lab.kbpg("validate", timeout=600)
    assert validated.code == 0, validated.everything
    virtual.given_to(PROXIES[1])
    # Neighbours remember for a while where it was: nobody announces it here, as keepalived would
    lab.until(lambda: all(virtual.answers(port) for port in PORTS), 90, "the other proxy takes clients there")


@pytest.mark.timeout(600)
def test_it_is_taken_back(virtual: Virtual) -> None:
    virtual.lab.apply()
    assert virtual.asked(6432) == 1
    virtual.before.apply()
    assert not any(virtual.open_at(port) for port in PORTS)
    for proxy in PROXIES:
        assert [virtual.before.one(proxy, port, "select 1") for port in PORTS] == [1, 1, 1]
    assert virtual.before.kbpg("plan").code == 0
