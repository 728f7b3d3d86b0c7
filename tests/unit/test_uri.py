"""Connection strings, read back by libpq itself."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from kbpg.credentials import Credentials, generate
from kbpg.inventory import Inventory, parse
from kbpg.secret import Secret
from kbpg.uri import Kind, uri

TRICKY = "a'b\"c$d\\e%f@g:h/i ü"
HOSTS = """
db:
  - {name: a, address: 192.0.2.1}
  - {name: b, address: 192.0.2.2}
  - {name: c, address: 192.0.2.3}
proxies:
  - {name: p, address: 192.0.2.11}
  - {name: q, address: 192.0.2.12}
"""


VERIFIED = "sslmode=verify-full&sslrootcert=%2Fhere%2Fcredentials%2Fpki%2Fca.crt"
"""What every connection string has unless the inventory says `tls: off`."""
PATIENT = "connect_timeout=3&tcp_user_timeout=1000"
"""What every connection string has, however many addresses it names."""


def inventory(cluster: str = "", ports: str = "", more: str = "") -> Inventory:
    text = f"cluster: {{name: test{cluster}}}\nports: {{{ports}}}\n{more}\n{HOSTS}"
    return parse(text, "/here/inventory.yaml")


@pytest.fixture
def credentials() -> Credentials:
    return replace(
        generate("kb_admin", "kb_app"), app_password=Secret("app"), superuser_password=Secret("su")
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            Kind.DIRECT,
            "postgresql://kb_app:app@192.0.2.11:5432,192.0.2.12:5432/keybuzz"
            f"?{VERIFIED}&{PATIENT}&target_session_attrs=read-write",
        ),
        (
            Kind.POOLED,
            f"postgresql://kb_app:app@192.0.2.11:6432,192.0.2.12:6432/keybuzz?{VERIFIED}&{PATIENT}",
        ),
        (
            Kind.READ_ONLY,
            "postgresql://kb_app:app@192.0.2.11:5433,192.0.2.12:5433/keybuzz"
            f"?{VERIFIED}&{PATIENT}&options=-c%20default_transaction_read_only%3Don",
        ),
        (
            Kind.READ_ONLY_POOLED,
            f"postgresql://kb_app:app@192.0.2.11:6432,192.0.2.12:6432/keybuzz_ro?{VERIFIED}&{PATIENT}",
        ),
    ],
)
def test_both_proxies(kind: Kind, expected: str, credentials: Credentials) -> None:
    assert uri(inventory(), credentials, kind, show_password=True) == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            Kind.DIRECT,
            f"postgresql://kb_app:***@192.0.2.10:15432/keybuzz?{VERIFIED}&{PATIENT}&target_session_attrs=read-write",
        ),
        (Kind.POOLED, f"postgresql://kb_app:***@192.0.2.10:16432/keybuzz?{VERIFIED}&{PATIENT}"),
        (
            Kind.READ_ONLY,
            f"postgresql://kb_app:***@192.0.2.10:15433/keybuzz?{VERIFIED}&{PATIENT}"
            "&options=-c%20default_transaction_read_only%3Don",
        ),
        (Kind.READ_ONLY_POOLED, f"postgresql://kb_app:***@192.0.2.10:16432/keybuzz_ro?{VERIFIED}&{PATIENT}"),
    ],
)
def test_load_balancer_and_other_ports(kind: Kind, expected: str, credentials: Credentials) -> None:
    behind = inventory(", load_balancer: 192.0.2.10", "primary: 15432, replicas: 15433, pgbouncer: 16432")
    assert uri(behind, credentials, kind) == expected


def test_without_tls_nothing_is_verified(credentials: Credentials) -> None:
    clear = inventory(", load_balancer: 192.0.2.10", more="tls: off")
    assert (
        uri(clear, credentials, Kind.POOLED) == f"postgresql://kb_app:***@192.0.2.10:6432/keybuzz?{PATIENT}"
    )
    assert uri(clear, credentials, Kind.DIRECT).endswith(
        f"/keybuzz?{PATIENT}&target_session_attrs=read-write"
    )


@pytest.mark.parametrize("address", ["2001:db8::1", "2001:db8:1:2:3:4:5:6"])
def test_an_ipv6_address_stands_in_brackets(address: str, credentials: Credentials) -> None:
    text = uri(inventory(f', load_balancer: "{address}"'), credentials, Kind.POOLED)
    assert text == f"postgresql://kb_app:***@[{address}]:6432/keybuzz?{VERIFIED}&{PATIENT}"
    assert conninfo_to_dict(text)["host"] == address


def test_a_password_is_shown_only_when_asked_for(credentials: Credentials) -> None:
    secret = replace(credentials, app_password=Secret("hunter2"), superuser_password=Secret("hunter2"))
    for kind in Kind:
        assert "hunter2" not in uri(inventory(), secret, kind)
        assert "hunter2" not in uri(inventory(), secret, kind, user="superuser")
        assert "hunter2" in uri(inventory(), secret, kind, show_password=True)


def test_superuser(credentials: Credentials) -> None:
    text = uri(inventory(), credentials, Kind.POOLED, user="superuser", show_password=True)
    assert text.startswith("postgresql://kb_admin:su@")


@settings(max_examples=100, deadline=None)
@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30),
    st.sampled_from(Kind),
)
def test_libpq_reads_back_what_was_meant(password: str, kind: Kind) -> None:
    secrets = replace(generate("kb_admin", "kb_app"), app_password=Secret(password))
    text = uri(inventory(), secrets, kind, show_password=True)
    assert text.isascii()
    assert text.isprintable()
    read = conninfo_to_dict(text)
    database = "keybuzz_ro" if kind is Kind.READ_ONLY_POOLED else "keybuzz"
    assert (read["user"], read["password"], read["dbname"]) == ("kb_app", password, database)
    assert read.get("options") in (None, "-c default_transaction_read_only=on")
    assert read["host"] == "192.0.2.11,192.0.2.12"


def test_a_single_proxy_is_given_up_as_soon_as_two_are(credentials: Credentials) -> None:
    both = inventory()
    one = both.model_copy(update={"proxies": both.proxies[:1]})
    read = conninfo_to_dict(uri(one, credentials, Kind.POOLED))
    assert (read["host"], read["connect_timeout"], read["tcp_user_timeout"]) == ("192.0.2.11", "3", "1000")


@pytest.mark.parametrize("user", [TRICKY, "%41", "a b+c", "?x=y#z", "[::1]", "ü😀"])
def test_names_are_encoded_too(user: str) -> None:
    text = uri(inventory(), generate("kb_admin", user), Kind.DIRECT, show_password=True)
    assert conninfo_to_dict(text)["user"] == user


@pytest.mark.skipif(not shutil.which("psql"), reason="needs psql")
@pytest.mark.parametrize("kind", Kind)
def test_the_machines_own_psql_accepts_the_options(kind: Kind) -> None:
    """Nothing listens on these ports of the loopback: libpq has parsed the URI when it says so."""
    secrets = replace(generate("kb_admin", "kb_app"), app_password=Secret(TRICKY))
    text = uri(
        inventory(ports="primary: 1025, replicas: 1026, pgbouncer: 1027"), secrets, kind, show_password=True
    )
    local = text.replace("192.0.2.11", "127.0.0.1").replace("192.0.2.12", "127.0.0.1")
    done = subprocess.run(["psql", local, "-c", "select 1"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert done.stderr.count("Connection refused") == 2


def test_a_role_and_a_database_of_the_inventory() -> None:
    secrets = generate("kb_admin", "kb_app", ("reporting",))
    kind = Kind.READ_ONLY_POOLED
    text = uri(inventory(), secrets, kind, role="reporting", database="shop", show_password=True)
    read = conninfo_to_dict(text)
    assert (read["user"], read["dbname"]) == ("reporting", "shop_ro")
    assert read["password"] == secrets.roles["reporting"].reveal()
    assert "***" in uri(inventory(), secrets, Kind.DIRECT, role="reporting", database="shop")
