"""What was changed by hand is seen, named by plan, mended by apply-all, and nothing else moves."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import psycopg
import pytest
from tests.lab.conftest import DB, PROXIES, REST, STATISTICS, Lab

pytestmark = pytest.mark.lab


def edit_haproxy(lab: Lab) -> None:
    lab.sh("haproxy-01", "sed -i 's/ inter 500ms/ inter 900ms/' /opt/keybuzz/haproxy/haproxy.cfg")


def other_password(lab: Lab) -> None:
    with lab.connect("haproxy-01", 5432, admin=True) as connection:
        connection.execute("alter role kb_app password 'something else'")


def patch_config(lab: Lab) -> None:
    """PATCH /config from the node itself, as an operator would with curl."""
    script = (
        'docker exec -u 999 patroni python3 -c "import yaml; '
        "print(yaml.safe_load(open('/etc/patroni/secrets.yml'))['restapi']['authentication']['password'])\""
    )
    leader = lab.leader()
    password = lab.sh(leader, script).strip()
    body = json.dumps({"maximum_lag_on_failover": 5, "postgresql": {"parameters": {"work_mem": "5MB"}}})
    lab.sh(
        leader,
        f"curl -sf -u kbpg:{password} -X PATCH -d '{body}' {lab.curl(leader, REST, '/config')}",
    )


def chmod_data(lab: Lab) -> None:
    replica = next(host for host in DB if host != lab.leader())
    lab.sh(replica, "chmod 0755 /opt/keybuzz/postgres/data")


def other_option(lab: Lab) -> None:
    lab.sh("haproxy-02", "docker update --restart no pgbouncer")


def less_memory(lab: Lab) -> None:
    lab.sh("haproxy-01", "docker update --memory 800m --memory-swap 800m haproxy")


def limited_patroni(lab: Lab) -> None:
    replica = next(host for host in DB if host != lab.leader())
    lab.sh(replica, "docker update --memory 4g --memory-swap 4g patroni")


def foreign_mode(lab: Lab) -> None:
    lab.sh("haproxy-01", "chmod 0644 /opt/keybuzz/pgbouncer/userlist.txt")


@pytest.mark.parametrize(
    ("drift", "resource", "restarts"),
    [
        (edit_haproxy, "file:/opt/keybuzz/haproxy/haproxy.cfg", 0),
        (other_password, "role:kb_app", 0),
        (patch_config, "patroni:config", 0),
        (chmod_data, "directory:/opt/keybuzz/postgres/data", 0),
        (other_option, "container:pgbouncer", 1),
        (less_memory, "memory:haproxy", 0),
        (limited_patroni, "memory:patroni", 0),
        (foreign_mode, "file:/opt/keybuzz/pgbouncer/userlist.txt", 0),
    ],
)
def test_drift_is_named_and_mended(
    cluster: Lab, drift: Callable[[Lab], None], resource: str, restarts: int
) -> None:
    before = cluster.started()
    drift(cluster)
    plan = cluster.kbpg("plan", "--json")
    assert plan.code == 3, plan.everything
    named = {r for _, r in cluster.changed(plan) if not r.startswith("probe:")}
    assert named == {resource}
    done = cluster.kbpg("apply-all", "--json")
    assert done.code == 0, done.everything
    # what a rewritten file needs besides is its reload
    assert {r for _, r in cluster.changed(done)} - {"loaded:haproxy"} == {resource}
    after = cluster.started()
    assert len({key for key in before if before[key] != after.get(key)}) == restarts
    assert cluster.kbpg("plan").code == 0
    assert cluster.one("haproxy-01", 6432, "select 1") == 1


def test_changed_option_of_haproxy_is_one_diff_and_a_reload(cluster: Lab) -> None:
    inventory = cluster.edited(
        cluster.directory / "changed.yaml", lambda s: s.setdefault("haproxy", {}).update(max_connections=4000)
    )
    config = "file:/opt/keybuzz/haproxy/haproxy.cfg"
    before = cluster.started()
    with cluster.connect("haproxy-01", 5432) as connection:
        backend = connection.execute("select pg_backend_pid()").fetchone()
        plan = cluster.kbpg("plan", "--json", inventory=inventory)
        assert plan.code == 3, plan.everything
        assert cluster.changed(plan) == {(proxy, config) for proxy in PROXIES}
        changes = json.loads(plan.out)["changes"]
        assert all(change["lines"] == ["-    maxconn 5000", "+    maxconn 4000"] for change in changes)
        assert {change["impact"] for change in changes} == {"reload"}
        done = cluster.kbpg("apply-all", "--json", inventory=inventory)
        assert done.code == 0, done.everything
        assert cluster.changed(done) == {(p, r) for p in PROXIES for r in (config, "loaded:haproxy")}
        assert connection.execute("select pg_backend_pid()").fetchone() == backend
    assert cluster.started() == before
    assert "maxconn 4000" in cluster.sh("haproxy-01", "cat /opt/keybuzz/haproxy/haproxy.cfg")
    running = "docker exec haproxy sh -c 'echo show info | socat - /run/haproxy/admin.sock'"
    assert "Maxconn: 4000" in cluster.sh("haproxy-01", running)
    cluster.apply()


def test_a_stopped_pgbouncer_is_started_though_haproxy_is_reloaded_before_it(cluster: Lab) -> None:
    edit_haproxy(cluster)
    cluster.sh("haproxy-01", "docker stop pgbouncer")
    done = cluster.kbpg("apply-all", "--json")
    assert done.code == 0, done.everything
    mended = {resource for host, resource in cluster.changed(done) if host == "haproxy-01"}
    assert {"loaded:haproxy", "container:pgbouncer"} <= mended
    assert cluster.one("haproxy-01", 6432, "select 1") == 1
    assert cluster.kbpg("plan").code == 0


def test_a_superuser_whose_password_has_expired_is_let_in_again(cluster: Lab) -> None:
    with cluster.connect("haproxy-01", 5432, admin=True, dbname="postgres") as connection:
        connection.execute("alter role kb_admin valid until '2020-01-01'")
    done = cluster.kbpg("apply-all", "--json")
    assert done.code == 0, done.everything
    assert "access:kb_admin" in {resource for _, resource in cluster.changed(done)}
    assert cluster.kbpg("plan").code == 0


def test_configuration_that_haproxy_refuses_never_reaches_it(cluster: Lab) -> None:
    """A file that would not load stays out; the running HAProxy goes on."""
    before = cluster.sh("haproxy-01", f"curl -sf {cluster.curl('haproxy-01', STATISTICS, '/;csv')}")
    assert "primary" in before
    cluster.sh("haproxy-01", "echo 'no such keyword' >> /opt/keybuzz/haproxy/haproxy.cfg")
    cluster.apply()
    assert "no such keyword" not in cluster.sh("haproxy-01", "cat /opt/keybuzz/haproxy/haproxy.cfg")
    assert cluster.one("haproxy-01", 5432, "select 1") == 1


def test_wrong_password_is_refused(cluster: Lab) -> None:
    for port in (5432, 6432):
        with pytest.raises(psycopg.OperationalError, match=r"(?i)auth"):
            psycopg.connect(
                host=cluster.addresses["haproxy-01"],
                port=port,
                user="kb_app",
                password=base64.b64encode(b"wrong").decode(),
                dbname="keybuzz",
                connect_timeout=5,
            )
