"""From bare hosts to a cluster, and again without a change."""

from __future__ import annotations

import json

import pytest
from tests.lab.conftest import DB, PROXIES, Lab

pytestmark = pytest.mark.lab

LISTING = (
    "find / -xdev \\( -path /proc -o -path /sys -o -path /var/lib/docker -o -path /tmp -o -path /var/log \\)"
    " -prune -o -type f -printf '%p %s %m %T@\\n' | sort; docker ps -a --format '{{.Names}}'"
)


def test_plan_on_bare_hosts_lists_everything_and_touches_nothing(bare: Lab) -> None:
    before = bare.everywhere(LISTING)
    ran = bare.kbpg("plan", "--json")
    assert ran.code == 3, ran.everything
    changes = bare.changed(ran)
    assert {(host, "container:patroni") for host in DB} <= changes
    assert {(host, f"container:{name}") for host in PROXIES for name in ("haproxy", "pgbouncer")} <= changes
    assert ("cluster", "extension:vector") in changes
    assert all(change["impact"] == "none" for change in json.loads(ran.out)["changes"])
    assert bare.everywhere(LISTING) == before
    assert not (bare.directory / "credentials").exists()


def test_apply_builds_a_cluster_that_answers(bare: Lab) -> None:
    bare.apply(timeout=900)
    assert bare.leader() == "db-master-01"  # the only one with a bootstrap section
    bare.await_whole(deadline=5)
    for proxy in PROXIES:
        assert bare.one(proxy, 6432, "select '[1,2,3]'::vector <-> '[1,2,4]'::vector") == 1
        assert bare.one(proxy, 5432, "select not pg_is_in_recovery()") is True
        assert bare.one(proxy, 6432, "select current_user", admin=True) == "kb_admin"
        assert bare.one(proxy, 5433, "select pg_is_in_recovery()") is True
    for host in DB:
        version = bare.sh(host, "docker exec -u 999 patroni psql -U kb_admin -d keybuzz -Atc "
                          "\"select extversion from pg_extension where extname='vector'\"")  # fmt: skip
        assert version.strip() == "0.8.1"
        assert bare.sh(host, "stat -c '%u:%g %a' /opt/keybuzz/postgres/data").strip() == "999:999 700"
    assert (bare.directory / "credentials" / "postgres.env").stat().st_mode & 0o777 == 0o600


def test_again_changes_nothing_and_restarts_nothing(cluster: Lab) -> None:
    before = cluster.started()
    ran = cluster.kbpg("apply-all", "--json")
    assert ran.code == 0, ran.everything
    assert set(json.loads(ran.out)["counts"]) == {"ok"}
    assert cluster.changed(ran) == set()
    assert cluster.started() == before
    plan = cluster.kbpg("plan")
    assert plan.code == 0
    assert "nothing would change" in plan.out


def test_psql_takes_the_uri_as_printed(cluster: Lab) -> None:
    for kind in ("--pooled", "--direct", "--read-only"):
        ran = cluster.kbpg("uri", kind, "--show-password")
        assert ran.out.count("\n") == 1
        assert ran.err == ""
        query = "select '[1,2,3]'::vector <-> '[1,2,4]'"
        done = cluster.psql(ran.out.strip(), query)
        assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_a_vector_written_through_the_pool_is_on_every_replica(cluster: Lab) -> None:
    with cluster.connect("haproxy-01", 6432) as connection:
        connection.execute("drop table if exists seen; create table seen (v vector(3))")
        connection.execute("insert into seen values ('[1,2,3]')")
    for host in DB:
        count = (
            'docker exec -u 999 patroni psql -U kb_admin -d keybuzz -Atc "select count(*) from kb_app.seen"'
        )
        cluster.until(
            lambda h=host, c=count: cluster.sh(h, c, check=False).strip() == "1", 5, f"the row on {host}"
        )


def test_a_removed_haproxy_comes_back_by_its_step_alone(cluster: Lab) -> None:
    before = cluster.started()
    cluster.sh("haproxy-02", "docker rm -f haproxy")
    ran = cluster.kbpg("step", "03", "--json")
    assert ran.code == 0, ran.everything
    assert cluster.changed(ran) == {("haproxy-02", "container:haproxy")}
    after = cluster.started()
    assert before.pop(("haproxy-02", "haproxy")) != after.pop(("haproxy-02", "haproxy"))
    assert after == before
    assert cluster.one("haproxy-02", 5432, "select 1") == 1


def test_status_names_all_members(cluster: Lab) -> None:
    ran = cluster.kbpg("status", "--json")
    assert ran.code == 0, ran.everything
    document = json.loads(ran.out)
    assert document["leader"] == cluster.leader()
    assert {member["name"] for member in document["members"]} == set(DB)
    assert {proxy["name"] for proxy in document["proxies"]} == set(PROXIES)
