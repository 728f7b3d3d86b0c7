"""TLS on every hop: required, verified, changed to and from under load, renewed under load and after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from tests.lab.conftest import DB, HOSTS, PROXIES, Lab, killed_at_end
from tests.lab.faults_patroni import REST_PASSWORD
from tests.lab.load import writing

pytestmark = [pytest.mark.lab, pytest.mark.faults]

RENEWED = ("credentials", "renew-tls")
MOMENTS = (1.0, 2.0, 3.5)
"""Seconds after which a renewal is killed; a whole one takes about five."""
FOREIGN = """
d=$(mktemp -d); cd "$d"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k -out c -days 5 -subj /CN={name} \
  -addext subjectAltName={names} 2>/dev/null
cp -p {path}/server.crt {path}/server.crt.kept; cp -p {path}/server.key {path}/server.key.kept
cat c >{path}/server.crt; cat k >{path}/server.key; rm -rf "$d"
"""
SAME = '{"synchronous_mode_strict": false}'
"""A change of Patroni's configuration that changes nothing."""
BACK = "mv {path}/server.crt.kept {path}/server.crt; mv {path}/server.key.kept {path}/server.key"


@pytest.fixture(scope="module")
def modes(lab: Lab) -> Iterator[dict[str, Path]]:
    """The lab's inventory in both modes; at the end the cluster is as the shipped one wants it."""
    paths = {
        mode: lab.edited(lab.directory / f"tls-{mode}.yaml", lambda s, mode=mode: s.update(tls=mode))
        for mode in ("off", "require")
    }
    lab.apply()
    lab.await_whole(60)
    yield paths
    lab.apply()
    lab.await_whole(60)
    for path in paths.values():
        path.unlink()


@pytest.fixture
def secure(lab: Lab, modes: dict[str, Path]) -> Lab:
    """A cluster that requires TLS."""
    lab.apply(modes["require"])
    lab.await_whole(60)
    return lab


def verdicts(lab: Lab, inventory: Path) -> dict[str, tuple[str, str]]:
    ran = lab.kbpg("validate", "--json", inventory=inventory)
    return {c["id"]: (c["outcome"], c["summary"]) for c in json.loads(ran.out)["checks"]}


def test_each_hop_as_validate_sees_it(secure: Lab, modes: dict[str, Path]) -> None:
    found = verdicts(secure, modes["require"])
    print(json.dumps({key: value for key, value in found.items() if key.startswith("tls")}, indent=2))
    assert {outcome for outcome, _ in found.values()} == {"passed"}, found
    assert secure.kbpg("plan", inventory=modes["require"]).code == 0


def test_plaintext_is_refused_and_the_certificate_is_verified(secure: Lab) -> None:
    for host, port in [(p, port) for p in PROXIES for port in (5432, 5433, 6432)] + [(h, 5432) for h in DB]:
        admin = host in DB
        with pytest.raises(psycopg.OperationalError, match=r"no encryption|SSL required"):
            secure.connect(host, port, admin=admin, sslmode="disable")
        if admin:
            continue  # pg_hba has no line for this machine
        secure.connect(host, port, sslmode="verify-full", sslrootcert=str(secure.ca)).close()
        with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
            secure.connect(host, port, sslmode="verify-full", sslrootcert="system")


@pytest.mark.timeout(900)
def test_off_require_off_under_load(lab: Lab, modes: dict[str, Path]) -> None:
    lab.apply(modes["off"])
    with writing(lab) as load:
        load.go_on_for(1)
        for mode in ("require", "off"):
            load.reset()
            ran = lab.apply(modes[mode])
            load.go_on_for(1)
            seen = load.seen()
            print(f"\nto {mode}: {ran.seconds:.1f} s, {seen}")
            assert not seen.errors, seen.errors[:5]
            assert lab.kbpg("plan", inventory=modes[mode]).code == 0
            assert lab.kbpg("diagnose", inventory=modes[mode]).code == 0
        assert load.stop().lost == 0


@pytest.mark.parametrize("moment", [2.0, 5.0, 9.0, 14.0])
def test_a_change_that_was_killed_goes_on(lab: Lab, modes: dict[str, Path], moment: float) -> None:
    lab.apply(modes["off"])
    with writing(lab) as load:
        load.go_on_for(1)
        load.reset()
        with killed_at_end(lab.start("apply-all", inventory=modes["require"])) as process:
            time.sleep(moment)  # the moment itself is what is tested
            assert process.poll() is None, "it had ended"
            os.kill(process.pid, signal.SIGKILL)
        load.go_on_for(3)
        lab.apply(modes["require"])
        load.go_on_for(1)
        seen = load.stop()
    print(f"\nkilled after {moment} s: {seen}")
    assert (seen.errors, seen.lost) == ((), 0)
    assert lab.kbpg("plan", inventory=modes["require"]).code == 0


def serials(lab: Lab) -> dict[str, str]:
    paths = {**dict.fromkeys(DB, "patroni"), **dict.fromkeys(PROXIES, "pgbouncer")}
    script = "openssl x509 -noout -serial -in /opt/keybuzz/{}/tls/server.crt"
    return {host: lab.sh(host, script.format(paths[host])).strip() for host in HOSTS}


def test_certificates_are_renewed_under_load(secure: Lab, modes: dict[str, Path]) -> None:
    before = serials(secure)
    with writing(secure) as load:
        load.go_on_for(1)
        load.reset()
        ran = secure.kbpg(*RENEWED, inventory=modes["require"])
        assert ran.code == 0, ran.everything
        load.go_on_for(1)
        seen = load.stop()
    print(f"\nrenewed in {ran.seconds:.1f} s: {seen}")
    assert (seen.errors, seen.lost) == ((), 0)
    after = serials(secure)
    assert not set(before.values()) & set(after.values())
    assert_served(secure, after)


def assert_served(lab: Lab, wanted: dict[str, str]) -> None:
    """What the servers show is what lies on the hosts."""
    ways = [(h, f"-connect {lab.addresses[h]}:5432 -starttls postgres") for h in DB]
    ways += [(h, f"-connect {lab.addresses[h]}:8008") for h in DB]
    ways += [(p, f"-connect {lab.addresses[p]}:6432 -starttls postgres") for p in PROXIES]
    ways += [(p, f"-connect {lab.addresses[p]}:8404") for p in PROXIES]
    for host, way in ways:
        shown = lab.sh(host, f"openssl s_client {way} </dev/null 2>/dev/null | openssl x509 -noout -serial")
        assert shown.strip() == wanted[host], (host, way)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_renewal_that_was_killed_is_finished_by_the_next_run(
    secure: Lab, modes: dict[str, Path], moment: float
) -> None:
    with writing(secure) as load:
        load.go_on_for(1)
        load.reset()
        with killed_at_end(secure.start(*RENEWED, inventory=modes["require"])) as process:
            time.sleep(moment)  # the moment itself is what is tested
            assert process.poll() is None, "it had ended"
            os.kill(process.pid, signal.SIGKILL)
        load.go_on_for(1)
        secure.apply(modes["require"])
        load.go_on_for(1)
        seen = load.stop()
    assert (seen.errors, seen.lost) == ((), 0)
    assert secure.kbpg("plan", inventory=modes["require"]).code == 0
    assert_served(secure, serials(secure))


@pytest.mark.timeout(900)
def test_the_cluster_gets_a_new_authority_under_load(secure: Lab, modes: dict[str, Path]) -> None:
    """The four steps of docs/tls.md, "What to back up", for an authority whose key has leaked."""
    pki = secure.directory / "credentials" / "pki"
    aside, before = pki.with_name("pki.leaked"), serials(secure)
    former = secure.ca.read_bytes()
    try:
        with writing(secure) as load:
            load.go_on_for(1)
            secure.apply(modes["off"])
            pki.rename(aside)
            for hosts, program in ((DB, "patroni"), (PROXIES, "pgbouncer")):
                secure.everywhere(f"rm /opt/keybuzz/{program}/tls/ca.crt", hosts)
            secure.apply(modes["off"])
            secure.apply(modes["require"])
            load.go_on_for(1)
            seen = load.stop()
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    print(f"\na new authority: {seen}")
    assert (seen.errors, seen.lost) == ((), 0)
    assert secure.ca.read_bytes() != former
    assert not set(before.values()) & set(serials(secure).values())
    assert_served(secure, serials(secure))
    assert {outcome for outcome, _ in verdicts(secure, modes["require"]).values()} == {"passed"}
    old = secure.directory / "former.crt"
    old.write_bytes(former)
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        secure.connect(PROXIES[0], 6432, sslmode="verify-full", sslrootcert=str(old))
    old.unlink()


@contextmanager
def foreign(lab: Lab, host: str, directory: str, reload: str) -> Iterator[None]:
    """A host with a certificate that the cluster's authority did not sign."""
    path = f"/opt/keybuzz/{directory}/tls"
    names = ",".join(
        (
            "DNS:" + host,
            "IP:" + lab.addresses[host],
            "IP:127.0.0.1",
            *(f"IP:{lab.addresses[p]}" for p in PROXIES),
        )
    )
    lab.sh(host, FOREIGN.format(name=host, names=names, path=path) + reload)
    try:
        yield
    finally:
        lab.sh(host, BACK.format(path=path) + "; " + reload)


RELOAD = (
    "docker exec patroni sh -c 'kill -HUP $(head -n1 $PGDATA/postmaster.pid)'; "
    "docker exec patroni sh -c 'kill -HUP 1'"
)


def test_another_authoritys_certificate_is_refused(secure: Lab, modes: dict[str, Path]) -> None:
    leader = secure.leader()
    replica = next(name for name in DB if name != leader)
    with foreign(secure, replica, "patroni", RELOAD):
        secure.until(
            _serves(secure, replica, "5432 -starttls postgres", verified=False), 20, "PostgreSQL has it"
        )
        with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
            secure.connect(replica, 5432, admin=True, sslmode="verify-full", sslrootcert=str(secure.ca))
        # HAProxy takes it out as soon as Patroni shows it
        secure.until(_serves(secure, replica, "8008", verified=False), 20, "Patroni has it")
        secure.until(lambda: _state(secure, replica) != "2", 20, "HAProxy takes it out")
    secure.await_whole(60)
    secure.until(lambda: secure.kbpg("diagnose", inventory=modes["require"]).code == 0, 60, "healthy again")


def test_patronis_api_changes_nothing_for_who_has_no_certificate_of_the_cluster(secure: Lab) -> None:
    """With the right password, from a host that may ask: only a member's certificate, or kbpg's, will do."""
    host, there = secure.leader(), "/opt/keybuzz/patroni/tls"
    make = (
        "cd /root && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout foreign.key"
        f" -out foreign.crt -days 5 -subj /CN={host} 2>/dev/null"
    )
    secure.sh(host, make)
    ways = {
        "none": "",
        "foreign": "--cert /root/foreign.crt --key /root/foreign.key ",
        "member": f"--cert {there}/server.crt --key {there}/server.key ",
    }
    said = {}
    for name, own in ways.items():
        asked = (
            f"{REST_PASSWORD}; curl -s --max-time 10 -K - -o /dev/null -w '%{{http_code}}' -X PATCH -d '{SAME}' {own}"
            f'--cacert {there}/ca.crt https://{secure.addresses[host]}:8008/config <<EOF\nuser = "kbpg:$p"\nEOF\n'
        )
        said[name] = secure.sh(host, asked, check=False).strip()
    print(said)
    assert said["member"] == "200"
    assert said["none"] == "403"
    assert said["foreign"] == "000"  # the handshake itself fails
    secure.sh(host, "rm /root/foreign.*")


def test_a_proxy_of_another_authority_is_refused(secure: Lab, modes: dict[str, Path]) -> None:
    """By clients that verify, on PgBouncer's port and on HAProxy's statistics; kbpg says so and mends it."""
    proxy = PROXIES[0]
    with foreign(secure, proxy, "pgbouncer", "docker exec pgbouncer sh -c 'kill -HUP 1'"):
        secure.until(
            _serves(secure, proxy, "6432 -starttls postgres", verified=False), 20, "PgBouncer has it"
        )
        with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
            secure.connect(proxy, 6432, sslmode="verify-full", sslrootcert=str(secure.ca))
        assert "differ" in secure.kbpg("plan", inventory=modes["require"]).out
    secure.until(
        _serves(secure, proxy, "6432 -starttls postgres", verified=True), 20, "PgBouncer has its own"
    )
    secure.apply(modes["require"])


def _serves(lab: Lab, host: str, port: str, *, verified: bool) -> Callable[[], bool]:
    ca = f"/opt/keybuzz/{'patroni' if host in DB else 'pgbouncer'}/tls/ca.crt"
    way = f"openssl s_client -connect {lab.addresses[host]}:{port} -CAfile {ca} </dev/null 2>/dev/null"

    def look() -> bool:
        return ("Verify return code: 0" in lab.sh(host, way, check=False)) == verified

    return look


def _state(lab: Lab, host: str) -> str:
    shown = lab.sh(
        PROXIES[0],
        "docker exec haproxy sh -c 'echo show servers state replicas | socat - /run/haproxy/admin.sock'",
    )
    return next(line.split()[5] for line in shown.splitlines() if f" {host} " in line)
