"""Who may connect to which port: the policy, the file that nft reads, the unit, what an inventory may say."""

from __future__ import annotations

import re
import subprocess
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbpg.errors import InventoryError
from kbpg.firewall import policy
from kbpg.firewall.policy import Guarded, guarded, merged, rules_file, shown
from kbpg.inventory import Inventory, parse

HOSTS = """
db:
  - {name: db-1, address: 10.0.0.120}
  - {name: db-2, address: 10.0.0.121}
  - {name: db-3, address: 10.0.0.122}
proxies:
  - {name: px-1, address: 10.0.0.11}
  - {name: px-2, address: 10.0.0.12}
"""
DATABASES = "10.0.0.120 10.0.0.121 10.0.0.122"
EVERYWHERE = f"10.0.0.11 10.0.0.12 {DATABASES}"


def inventory(prepare: str = "firewall: managed", more: str = "", hosts: str = HOSTS) -> Inventory:
    return parse(f"cluster: {{name: kb{more}}}\nprepare: {{{prepare}}}\n{hosts}", "i.yaml")


def table(inv: Inventory, name: str) -> dict[int, str | None]:
    return {
        each.port: None if each.sources is None else " ".join(map(shown, each.sources))
        for each in guarded(inv, inv.host(name))
    }


def refused(prepare: str, more: str = "") -> str:
    with pytest.raises(InventoryError) as caught:
        parse(f"cluster: {{name: kb}}\nprepare: {{{prepare}}}\n{more}{HOSTS}", "i.yaml")
    return "\n".join(caught.value.lines())


def test_off_is_the_default_and_a_word_of_its_own() -> None:
    assert parse(f"cluster: {{name: kb}}{HOSTS}", "i.yaml").prepare.firewall == "off"
    assert inventory("firewall: off").prepare.firewall == "off"
    assert "wanted managed or off" in refused("firewall: report")


def test_db_hosts_let_in_each_other_and_the_proxies_but_not_to_raft() -> None:
    assert table(inventory("firewall: managed, allowed_clients: [10.9.0.0/16]"), "db-2") == {
        7000: DATABASES,
        8008: EVERYWHERE,
        5432: EVERYWHERE,
    }


def test_proxies_let_in_everyone_where_nobody_is_named() -> None:
    assert table(inventory(), "px-1") == dict.fromkeys((5432, 5433, 6432, 8404))


def test_proxies_let_in_the_hosts_the_clients_and_the_load_balancer() -> None:
    inv = inventory(
        'firewall: managed, allowed_clients: [10.9.0.0/16, "2001:db8::/32"]', ", load_balancer: 10.0.0.10"
    )
    scrapers = f"{EVERYWHERE} 10.9.0.0/16 2001:db8::/32"
    clients = f"10.0.0.10 {scrapers}"
    assert table(inv, "px-2") == {5432: clients, 5433: clients, 6432: clients, 8404: scrapers}


def test_an_empty_list_of_clients_is_the_hosts_alone() -> None:
    inv = inventory("firewall: managed, allowed_clients: []", ", load_balancer: db.example.org")
    assert set(table(inv, "px-1").values()) == {EVERYWHERE}


def test_a_host_more_is_let_in_everywhere_and_one_less_nowhere() -> None:
    more = HOSTS.replace(
        "proxies:", "  - {name: db-4, address: 10.0.0.123}\n  - {name: db-5, address: 10.0.1.5}\nproxies:"
    )
    before, after = inventory(), inventory(hosts=more)
    for name in ("db-1", "db-2", "db-3"):
        for port, sources in table(after, name).items():
            assert str(sources).endswith(f"{DATABASES} 10.0.0.123 10.0.1.5"), port
    assert "10.0.1.5" not in str(table(before, "db-1"))


networks = st.builds(
    lambda address, length: ip_network((int(address), length), strict=False),
    st.ip_addresses(v=4),
    st.integers(1, 32),
) | st.builds(
    lambda address, length: ip_network((int(address), length), strict=False),
    st.ip_addresses(v=6),
    st.integers(1, 128),
)


@settings(max_examples=200)
@given(st.lists(networks, max_size=6))
def test_merged_networks_hold_the_same_addresses_and_never_overlap(given: list[policy.Network]) -> None:
    found = merged(given)
    for index, each in enumerate(found):
        assert not any(each.version == o.version and each.overlaps(o) for o in found[index + 1 :])  # type: ignore[arg-type]
    for each in given:
        for edge in (each.network_address, each.broadcast_address):
            assert any(edge in other for other in found)
    for each in found:
        for edge in (each.network_address, each.broadcast_address):
            assert any(edge in other for other in given)


# --- the file ----------------------------------------------------------------------------------------


def statements(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def test_the_file_replaces_the_own_table_and_touches_nothing_else() -> None:
    inv = inventory('firewall: managed, allowed_clients: [10.9.0.0/16, "2001:db8::/32"]')
    for host in inv.hosts:
        found = statements(rules_file(inv, host).decode())
        assert found[:6] == [
            "add table inet kbpg",
            "delete table inet kbpg",
            "table inet kbpg {",
            "chain input {",
            "type filter hook input priority filter; policy accept;",
            'iifname "lo" accept comment "from the host itself"',
        ]
        assert not re.search(r"flush|policy drop|reject|dport (22|ssh)\b", "\n".join(found))
        # Whatever is dropped was let in before for those who may, and names one port
        assert all(re.fullmatch(r"tcp dport \d+ counter drop", line) for line in found if "drop" in line)


def test_each_drop_comes_after_the_ways_in_and_only_attempts_to_connect_get_there() -> None:
    inv = inventory('firewall: managed, allowed_clients: ["2001:db8::/32"]')
    found = statements(rules_file(inv, inv.host("px-1")).decode())
    at = found.index('tcp flags & (fin | syn | rst | ack) != syn accept comment "no attempt to connect"')
    assert all(found.index(line) > at for line in found if "dport" in line)
    mine = [line for line in found if "dport 6432 " in line]
    assert [line.split()[0] for line in mine] == ["ip", "ip6", "tcp"]


def test_a_role_that_may_connect_to_the_nodes_opens_postgresql_s_port_and_no_other() -> None:
    roles = "roles: [{name: watcher, direct_from: [10.9.0.7, 10.8.0.0/16]}, {name: other}]\n"
    without, with_it = (table(inventory(hosts=more + HOSTS), "db-2") for more in ("\n", f"\n{roles}"))
    assert {port for port in with_it if with_it[port] != without[port]} == {5432}
    assert set(str(with_it[5432]).split()) - set(str(without[5432]).split()) == {"10.9.0.7", "10.8.0.0/16"}
    assert table(inventory(hosts=f"\n{roles}{HOSTS}"), "px-1") == table(inventory(), "px-1")


def test_a_port_for_everyone_has_no_rule() -> None:
    inv = inventory()
    assert "dport" not in "\n".join(statements(rules_file(inv, inv.host("px-1")).decode()))


@given(st.lists(networks, max_size=5))
@settings(max_examples=100)
def test_what_stands_in_the_file_are_addresses_of_their_family(given: list[policy.Network]) -> None:
    text = policy.render("firewall/firewall.nft.j2", guarded=[Guarded(6432, "PgBouncer", merged(given))])
    found: list[policy.Network] = []
    for family, sources in re.findall(r"(ip6?) saddr \{ (.*?) \} tcp", text):
        for each in sources.split(", "):
            network = ip_network(each)
            assert network.version == (6 if family == "ip6" else 4)
            found.append(network)
    assert merged(found) == merged(given)
    assert text.count("{") == text.count("}")


@pytest.mark.skipif(
    subprocess.run(["sh", "-c", "command -v systemd-analyze"], capture_output=True).returncode != 0,
    reason="systemd-analyze looks at the unit",
)
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    inv = inventory()
    (tmp_path / "firewall.nft").write_bytes(rules_file(inv, inv.host("db-1")))
    unit = tmp_path / policy.UNIT
    text = policy.unit_file(inv).decode()
    unit.write_text(text.replace("/usr/sbin/nft", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not [line for line in done.stderr.splitlines() if policy.UNIT in line], done.stderr
    assert "/opt/keybuzz/kbpg/firewall.nft" in text


# --- what an inventory may say -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ("10.9.0.1/16", "has host bits set: wanted the network 10.9.0.0/16"),
        ("0.0.0.0/0", "is everyone"),
        ('"::/0"', "is everyone"),
        ("clients.example.org", "wanted addresses, not a name"),
        ("10.9.0.0/33", "wanted a network such as 10.20.0.0/16"),
        ("10.9.0.0-10.9.0.9", "wanted a network such as"),
        ('"10.9.0.0/16 }; flush ruleset"', "wanted addresses, not a name"),
        ('"10.9.0.0/16\\n"', "a line break"),
        ('"::ffff:10.9.0.0/112"', "wanted them written as IPv4"),
        ('"fe80::1%eth0"', "wanted a network such as"),
        ('"fe80::1%} accept; flush ruleset #"', "wanted a network such as"),
        ("127.0.0.0/8", "is loopback"),
        ("224.0.0.0/4", "is multicast"),
        ('""', "must not be empty"),
        ("7", "wanted text"),
    ],
)
def test_networks_that_are_refused(network: str, says: str) -> None:
    assert says in refused(f"firewall: managed, allowed_clients: [{network}]")


def test_networks_that_are_everyone_together_are_refused() -> None:
    said = refused("firewall: managed, allowed_clients: [0.0.0.0/1, 128.0.0.0/1]")
    assert "prepare.allowed_clients: these networks together are every IPv4 address" in said


def test_a_list_that_nothing_enforces_is_refused() -> None:
    assert "nothing enforces it while prepare.firewall is off" in refused("allowed_clients: [10.9.0.0/16]")


def test_a_mistake_in_the_list_is_one_problem() -> None:
    assert refused("firewall: managed, allowed_clients: [nonsense, 10.9.0.0/16]").count("i.yaml:") == 1


@pytest.mark.parametrize(
    "ssh", ["ssh: {port: 7000}\n", "ssh: {port: 8008, jump: boss@jump:22}\n", "ssh: {port: 6432}\n"]
)
def test_the_port_of_ssh_is_none_of_the_guarded_ones(ssh: str) -> None:
    assert "is also the SSH port of" in refused("firewall: managed", ssh)


def test_also_where_ssh_goes_another_way_than_the_host_s_own_address() -> None:
    hosts = HOSTS.replace("10.0.0.11}", "10.0.0.11, ssh: {host: 192.0.2.1, port: 6432}}")
    parse(f"cluster: {{name: kb}}{hosts}", "i.yaml")
    with pytest.raises(InventoryError) as caught:
        inventory(hosts=hosts)
    lines = caught.value.lines()
    assert len([line for line in lines if "ports.pgbouncer: 6432 is also the SSH port of px-1" in line]) == 1


def test_the_own_address_of_every_host_is_let_in_where_kbpg_s_tunnels_end() -> None:
    inv = inventory("firewall: managed, allowed_clients: []")
    for host in inv.hosts:
        for each in guarded(inv, host):
            assert any(ip_address(host.address) in network for network in each.sources or ()), each.title
