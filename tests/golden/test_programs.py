"""The real programs read the rendered files, in containers without a network."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from kbpg import tuning
from kbpg.steps.images import HAPROXY_IMAGE, PATRONI_IMAGE, PGBOUNCER_IMAGE

from .cases import CASES, Case, certificates
from .containers import container, docker, log, run, wait_for

pytestmark = pytest.mark.docker
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
UNREACHABLE = re.compile(r"(raft\.partner_addrs .* didn't pass validation: )?\S+ is not reachable")


@each_case
def test_patroni_finds_nothing_wrong_but_its_absent_partners(case: Case) -> None:
    files = case.files()
    for host in (case.inventory.db[0], case.inventory.db[-1]):
        found = {
            f"/etc/patroni/{n}": files[f"patroni/{host.name}/{n}"] for n in ("patroni.yml", "secrets.yml")
        }
        if host is case.inventory.db[0]:
            found["/etc/patroni/bootstrap.yml"] = files["patroni/bootstrap.yml"]
        _, output = run(PATRONI_IMAGE, ("patroni", "--validate-config", "/etc/patroni"), found)
        lines = [line for line in output.splitlines() if line.strip()]
        assert lines, "the validator always misses the partners"
        assert [line for line in lines if not UNREACHABLE.fullmatch(line)] == []


@pytest.mark.parametrize("key", ["ttl", "listen", "data_dir"])
def test_the_validator_would_have_seen_a_mistake(key: str) -> None:
    case = CASES[0]
    files, host = case.files(), case.inventory.db[0]
    wrong = {f"/etc/patroni/{n}": files[f"patroni/{host.name}/{n}"] for n in ("patroni.yml", "secrets.yml")}
    wrong["/etc/patroni/bootstrap.yml"] = files["patroni/bootstrap.yml"].replace("ttl: 20", "ttl: 5")
    wrong["/etc/patroni/patroni.yml"] = wrong["/etc/patroni/patroni.yml"].replace(
        f"  {key}:", f"  not_{key}:"
    )
    _, output = run(PATRONI_IMAGE, ("patroni", "--validate-config", "/etc/patroni"), wrong)
    assert key in output


@each_case
def test_haproxy_accepts_its_configuration(case: Case) -> None:
    for host in case.inventory.proxies:
        files = {"/etc/haproxy/haproxy.cfg": case.files()[f"haproxy/{host.name}/haproxy.cfg"]}
        files |= certificates(case.inventory, host, "haproxy")
        status, output = run(HAPROXY_IMAGE, ("haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg"), files)
        assert (status, "WARNING" in output, "ALERT" in output) == (0, False, False), output


@each_case
def test_pgbouncer_starts_with_its_configuration_and_stops_when_asked(case: Case) -> None:
    files = case.files()
    host = case.inventory.proxies[0]
    found = {
        "/etc/pgbouncer/pgbouncer.ini": files[f"pgbouncer/{host.name}/pgbouncer.ini"],
        "/etc/pgbouncer/userlist.txt": files["pgbouncer/userlist.txt"],
        **certificates(case.inventory, host, "pgbouncer"),
    }
    # the address is another host's: it may be listened on all the same
    with container(PGBOUNCER_IMAGE, (), found, "--sysctl", "net.ipv4.ip_nonlocal_bind=1") as name:
        docker("start", name)
        output = wait_for("process up", name)
        listens = "0.0.0.0" if case.inventory.cluster.proxy_listen == "any" else host.address
        assert f"listening on {listens}:{case.inventory.ports.pgbouncer}" in output
        assert docker("stop", "-t", "20", name).returncode == 0
        state = docker("inspect", "-f", "{{.State.ExitCode}}", name).stdout.decode().strip()
        assert (state, re.findall("WARNING.*|ERROR.*|FATAL.*", log(name))) == ("0", [])


@pytest.fixture(
    scope="module", params=[case for case in CASES if case.name != "five"], ids=lambda case: case.name
)
def postgres(request: pytest.FixtureRequest) -> Iterator[tuple[Case, str]]:
    """A PostgreSQL with a case's parameters, and the container it runs in."""
    case = request.param
    names = {name: value for name, value in _parameters(case).items() if name != "shared_buffers"}
    settings = "".join(
        f"{name} = '{str(value).replace(chr(92), chr(92) * 2).replace(chr(39), chr(39) * 2)}'\n"
        for name, value in names.items()
    )
    superuser = case.inventory.cluster.superuser
    script = (
        f"initdb -U {superuser} -A trust -D /tmp/data > /dev/null && cat /tmp/more.conf >> /tmp/data/postgresql.conf"
        " && exec postgres -D /tmp/data -c unix_socket_directories=/tmp"
    )
    with container(PATRONI_IMAGE, ("sh", "-c", script), {"/tmp/more.conf": settings}) as name:
        docker("start", name)
        wait_for("ready to accept connections", name, 60)
        yield case, name


def _parameters(case: Case) -> dict[str, tuning.Parameter]:
    return tuning.parameters(case.memory, case.cores, case.inventory)


def sql(postgres: tuple[Case, str], text: str) -> str:
    """Return what psql prints for `text`, unaligned; fails where psql does."""
    case, name = postgres
    user = case.inventory.cluster.superuser
    command = ("psql", "-h", "127.0.0.1", "-U", user, "-d", "postgres", "-XqAt", "-v", "ON_ERROR_STOP=1")
    done = docker("exec", "-i", name, *command, stdin=text.encode())
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().removesuffix("\n")


def test_postgresql_shows_each_parameter_as_it_is_written(postgres: tuple[Case, str]) -> None:
    case, _ = postgres
    wanted = {name: str(value) for name, value in _parameters(case).items() if name != "shared_buffers"}
    rows = sql(postgres, "".join(f"SHOW {name};\n" for name in wanted)).split("\n")
    shown = dict(zip(wanted, rows, strict=True))
    # the override of the case "old" is not written as PostgreSQL shows it, and stays as the user wrote it
    if case.name == "old":
        assert (wanted.pop("random_page_cost"), shown.pop("random_page_cost")) == ("4.0", "4")
    assert shown == wanted


def test_the_lookup_function_is_the_rendered_one_and_refuses_what_it_must(postgres: tuple[Case, str]) -> None:
    case, _ = postgres
    files = case.files()
    superuser = case.inventory.cluster.superuser
    roles = (
        "pgbouncer_auth LOGIN",
        "app LOGIN",
        "expired LOGIN VALID UNTIL '2001-01-01'",
        "fresh LOGIN VALID UNTIL 'infinity'",
        "nologin",
        "other_super LOGIN SUPERUSER",
        "repl LOGIN REPLICATION",
    )
    sql(postgres, "".join(f"CREATE ROLE {role} PASSWORD 'x';\n" for role in roles))
    sql(postgres, f"ALTER ROLE {superuser} PASSWORD 'x';\n")
    for _ in range(2):
        sql(postgres, "BEGIN;\n" + files["sql/pgbouncer_auth.sql"] + "COMMIT;\n")
    source = "FROM pg_proc WHERE oid = 'pgbouncer.user_lookup(text)'::regprocedure;\n"
    assert sql(postgres, "SELECT prosrc " + source) == files["sql/pgbouncer_user_lookup.body.sql"]
    assert sql(postgres, "SELECT prosecdef, proconfig, proacl " + source) == (
        't|{"search_path=pg_catalog, pg_temp"}|{'
        + f"{superuser}=X/{superuser},pgbouncer_auth=X/{superuser}"
        + "}"
    )
    asked = (
        "SELECT r FROM pg_roles, pgbouncer.user_lookup(rolname) AS l(r, p) WHERE p LIKE 'SCRAM%' ORDER BY r;"
    )
    allowed = {"app", "fresh", "pgbouncer_auth"} | (
        {superuser} if case.inventory.pgbouncer.superuser_access else set()
    )
    assert set(sql(postgres, f"SET ROLE pgbouncer_auth;\n{asked}\n").split()) == allowed
    assert sql(postgres, "SELECT count(*) FROM pgbouncer.user_lookup('nobody');\n") == "0"
    assert (
        sql(postgres, "SELECT has_function_privilege('app', 'pgbouncer.user_lookup(text)', 'EXECUTE');\n")
        == "f"
    )
