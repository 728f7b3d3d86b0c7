"""The steps as pure functions: three inventories, no host, and what must hold of all that they want."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbpg.context import Context
from kbpg.credentials import Credentials
from kbpg.engine.run import Run
from kbpg.facts import CallFact, Facts, Knowledge, LocalFact, RestFact, ShellFact, SqlFact
from kbpg.firewall.policy import rules_path
from kbpg.hosts.fake import FakeHost
from kbpg.hosts.port import Output
from kbpg.inventory import load
from kbpg.model import CLUSTER, CONTROLLER, Change, Impact, Placed, Stage, Status, Step
from kbpg.patroni import NodeFact, NodeStatus
from kbpg.resources.birth import Removed
from kbpg.resources.container import Container
from kbpg.resources.docker import ContainersFact, ImagesFact
from kbpg.resources.file import File
from kbpg.resources.foreign import DataFact
from kbpg.resources.hardware import Hardware, HardwareFact
from kbpg.resources.image import Images
from kbpg.resources.loaded import Loaded, LoadedAhead
from kbpg.resources.preflight.disk import DiskFact
from kbpg.resources.preflight.ports import PortsFact
from kbpg.resources.preflight.system import SystemFact
from kbpg.resources.probe import Probe
from kbpg.resources.sysctl import SysctlFact
from kbpg.secret import Secret
from kbpg.steps import ALL
from kbpg.steps.images import patroni_image, proxy_images

from .certificates import placeholders

ROOT = Path(__file__).parents[2]
INVENTORIES = {
    "default": ROOT / "inventory.yaml",
    "five": ROOT / "tests/golden/five/inventory.yaml",
    "old": ROOT / "tests/golden/old/inventory.yaml",
}
FIELDS = (
    *("superuser_password", "app_password", "replication_password", "rewind_password"),
    *("pgbouncer_password", "raft_password", "rest_password"),
)
PASSWORDS = {field: f"Secret-of-the-{field.replace('_', '-')}" for field in FIELDS}
GB = 1 << 30


def context(name: str) -> Context:
    inventory = load(INVENTORIES[name])
    users = inventory.cluster.superuser, inventory.cluster.app_user
    passwords = {field: Secret(text) for field, text in PASSWORDS.items()}
    return Context(
        inventory,
        Credentials(superuser=users[0], app_user=users[1], **passwords),
        pki=placeholders(inventory),
    )


CONTEXTS = {name: context(name) for name in INVENTORIES}


def changed(section: str, **values: object) -> Context:
    """Return the shipped inventory's context with other values in one section."""
    context = CONTEXTS["default"]
    found = getattr(context.inventory, section).model_copy(update=values)
    return replace(context, inventory=context.inventory.model_copy(update={section: found}))


@pytest.fixture(params=INVENTORIES)
def cluster(request: pytest.FixtureRequest) -> Context:
    return CONTEXTS[request.param]


def stages(cluster: Context) -> Iterator[tuple[Step, Stage]]:
    for step in ALL:
        for stage in step.stages(cluster):
            yield step, stage


def items(cluster: Context) -> list[Placed]:
    return [item for _, stage in stages(cluster) for item in stage.items]


def on_all_hosts(cluster: Context) -> Facts:
    """Return facts of hosts of 8 GB, with the kernel settings that any file is made of."""
    knowledge = Knowledge()
    for item in items(cluster):
        for host, fact in item.resource.asks(item.place, cluster):
            if isinstance(fact, HardwareFact):
                knowledge.put(host, {fact.key: Hardware(8 * GB, 4)})
            if isinstance(fact, SysctlFact):
                knowledge.put(host, {fact.key: dict.fromkeys(fact.names, 1)})
    return Facts(knowledge, CLUSTER)


def files(cluster: Context) -> Iterator[tuple[str, File, str]]:
    """Yield every file's host, resource and content."""
    facts = on_all_hosts(cluster)
    for item in items(cluster):
        if isinstance(item.resource, File):
            yield item.place, item.resource, item.resource.content(facts.at(item.place)).decode()


# --- the list ----------------------------------------------------------------------------------------


def test_the_steps_are_seven_in_order() -> None:
    assert [step.number for step in ALL] == [0, 1, 2, 3, 4, 5, 6]
    assert [step.label for step in ALL] == [
        *("00 credentials", "01 prepare", "02 patroni", "03 haproxy"),
        *("04 pgbouncer", "05 pgvector", "06 diagnostics"),
    ]
    assert all(step.summary and not step.summary.endswith(".") for step in ALL)


def test_a_step_is_a_function_of_the_context_alone(cluster: Context) -> None:
    def shape() -> list[tuple[str, str, str, str]]:
        return [
            (s.label, stage.title, i.place, i.resource.id)
            for s, stage in stages(cluster)
            for i in stage.items
        ]

    assert shape() == shape()
    assert len(shape()) > 50


def test_every_stage_has_a_title_of_its_own_within_its_step(cluster: Context) -> None:
    titles = Counter((step.number, stage.title) for step, stage in stages(cluster))
    assert set(titles.values()) == {1}


def test_no_two_resources_of_a_step_share_an_id_at_a_place(cluster: Context) -> None:
    ids = Counter(
        (step.number, item.place, item.resource.id) for step, s in stages(cluster) for item in s.items
    )
    assert [each for each, count in ids.items() if count > 1] == []


def test_every_place_is_a_host_the_cluster_or_the_controller(cluster: Context) -> None:
    known = {*(host.name for host in cluster.inventory.hosts), CLUSTER, CONTROLLER}
    assert {item.place for item in items(cluster)} == known


def test_every_question_goes_to_a_host_that_there_is(cluster: Context) -> None:
    known = {*(host.name for host in cluster.inventory.hosts), CONTROLLER}
    for item in items(cluster):
        for place, fact in item.resource.asks(item.place, cluster):
            assert place in known
            assert isinstance(fact, LocalFact) == (place == CONTROLLER)
            assert isinstance(fact, ShellFact | RestFact | SqlFact | CallFact | LocalFact)


def test_one_key_is_one_question(cluster: Context) -> None:
    """A fact is asked once for all who name it, so what shares a key on a host must be the same question."""
    seen: dict[tuple[str, str], tuple[type, dict[str, object]]] = {}
    for item in items(cluster):
        for place, fact in item.resource.asks(item.place, cluster):
            question = (type(fact), vars(fact))
            assert seen.setdefault((place, fact.key), question) == question


def test_credentials_the_preflight_and_a_pause_stop_a_run_beforehand(cluster: Context) -> None:
    required = [(step.number, stage.unlimited) for step, stage in stages(cluster) if stage.requirement]
    # The second one is about passwords of the inventory's own roles, where there are any
    own = [(0, False)] if cluster.inventory.login_roles else []
    assert required == [
        (0, True),
        *own,
        (0, False),
        (0, True),
        (0, False),
        (1, False),
        (2, False),
        (2, False),
    ]


def test_only_changes_of_nodes_are_rolled_out_one_by_one(cluster: Context) -> None:
    rolled = [(step.number, stage.title) for step, stage in stages(cluster) if stage.rollout]
    assert rolled == [(2, "nodes"), (2, "restarts"), (3, "nodes"), (4, "nodes")]


# --- secrets -----------------------------------------------------------------------------------------


def revealed(text: str) -> list[str]:
    return [field for field, password in PASSWORDS.items() if password in text]


def test_a_file_that_holds_a_password_is_secret_and_its_owners_alone(cluster: Context) -> None:
    found = {(host, file.path): (file, revealed(text)) for host, file, text in files(cluster)}
    with_passwords = {where: file for where, (file, shown) in found.items() if shown}
    base = cluster.inventory.cluster.base_dir
    assert set(with_passwords) == {
        *((name, f"{base}/patroni/secrets.yml") for name in cluster.db_names),
        *((name, f"{base}/pgbouncer/userlist.txt") for name in cluster.proxy_names),
    }
    assert all(file.secret and file.mode == 0o600 for file in with_passwords.values())
    secret = {where for where, (file, _) in found.items() if file.secret} - set(with_passwords)
    assert {path.rsplit("/", 1)[1] for _, path in secret} == {"server.key", "server.pem"}
    assert all(found[where][0].mode == 0o600 for where in secret)


def test_each_file_holds_only_the_passwords_its_program_needs(cluster: Context) -> None:
    for _, file, text in files(cluster):
        if file.path.endswith("/secrets.yml"):
            unneeded = {"app_password", "pgbouncer_password"}
        elif file.path.endswith("/userlist.txt"):
            unneeded = {"raft_password", "rest_password", "replication_password", "rewind_password"}
        else:
            unneeded = set(PASSWORDS)
        assert not unneeded & set(revealed(text))


def test_no_command_that_starts_a_container_holds_a_password(cluster: Context) -> None:
    specs = [item.resource.spec for item in items(cluster) if isinstance(item.resource, Container)]
    assert {spec.name for spec in specs} == {"patroni", "haproxy", "pgbouncer"}
    for spec in specs:
        assert revealed(json.dumps(spec.argv())) == []
        assert not any(word.startswith(("--env", "-e")) for word in spec.argv())


def test_no_image_holds_a_password(cluster: Context) -> None:
    images = [item.resource for item in items(cluster) if isinstance(item.resource, Images)]
    specs = {spec.name: spec for resource in images for spec in resource._specs}
    assert len(specs) == 3
    for spec in specs.values():
        assert revealed(json.dumps(spec.build())) == []
        if cluster is not CONTEXTS["old"]:  # whose certificates and wheels are not there
            assert revealed(spec.context().decode()) == []


def test_no_name_and_no_question_shows_a_password(cluster: Context) -> None:
    for item in items(cluster):
        asked = [fact for _, fact in item.resource.asks(item.place, cluster)]
        scripts = [fact.script for fact in asked if isinstance(fact, ShellFact)]
        queries = [fact.query for fact in asked if isinstance(fact, SqlFact)]
        shown = [item.resource.id, *(fact.key for fact in asked), *map(repr, asked), *scripts, *queries]
        assert revealed("\n".join(shown)) == []


# --- containers and what they read -------------------------------------------------------------------


def test_a_container_mounts_directories_that_kbpg_makes(cluster: Context) -> None:
    made = {(item.place, item.resource.id.removeprefix("directory:")) for item in items(cluster)}
    for item in items(cluster):
        if isinstance(item.resource, Container):
            sources = {mount.split(":")[0] for mount in item.resource.spec.mounts}
            assert sources
            assert {(item.place, source) for source in sources} <= made


def test_the_inventorys_mounts_are_patronis_alone_and_kbpg_makes_none() -> None:
    wanted = changed("postgresql", mounts=("/srv/backup",))
    for item in items(wanted):
        if isinstance(item.resource, Container):
            patroni = item.resource.spec.name == "patroni"
            assert ("/srv/backup:/srv/backup:rw" in item.resource.spec.mounts) == patroni
    assert not any("/srv/backup" in item.resource.id for item in items(wanted))


def test_the_inventorys_packages_are_in_patronis_image_alone() -> None:
    def digests(wanted: Context) -> list[str]:
        return [spec.inputs for spec in (patroni_image(wanted), *proxy_images(wanted))]

    plain, more = CONTEXTS["default"], changed("build", packages=("pgbackrest",))
    assert [one == other for one, other in zip(digests(plain), digests(more), strict=True)] == [
        False,
        True,
        True,
    ]
    assert b"install -y --no-install-recommends pgbackrest " in patroni_image(more).context()
    assert b"pgbackrest" not in patroni_image(plain).context()


def test_what_a_container_reads_is_written_before_it_starts(cluster: Context) -> None:
    """File, then container, then loaded: a new container has read the new files."""
    order = {(item.place, item.resource.id): number for number, item in enumerate(items(cluster))}
    for item in items(cluster):
        if isinstance(item.resource, Loaded) and not isinstance(item.resource, LoadedAhead):
            name = item.resource.config.container
            directory = f"{cluster.inventory.cluster.base_dir}/{name}/"
            read = [i for i in items(cluster) if isinstance(i.resource, File) and i.place == item.place]
            files = [order[i.place, i.resource.id] for i in read if directory in i.resource.id]
            container = order[item.place, f"container:{name}"]
            assert files
            assert max(files) < container < order[item.place, item.resource.id]


def test_a_patroni_that_will_be_replaced_reloads_before_any_is(cluster: Context) -> None:
    """Its pg_hba must know new hosts before they want to clone it, which is before it is itself replaced."""
    titles = [each.title for step, each in stages(cluster) if step.number == 2]
    assert titles.index("files") < titles.index("ahead") < titles.index("nodes")
    ahead = [item.place for item in items(cluster) if isinstance(item.resource, LoadedAhead)]
    assert ahead == list(cluster.db_names)


def test_every_container_has_a_marker_that_its_files_remove(cluster: Context) -> None:
    for item in items(cluster):
        if isinstance(item.resource, Container):
            marker = item.resource.config.marker
            path = f"{cluster.inventory.cluster.base_dir}/{item.resource.spec.name}/"
            mine = [
                i.resource for i in items(cluster) if i.place == item.place and isinstance(i.resource, File)
            ]
            reloaded = [f for f in mine if f.path.startswith(path) and not f.path.endswith("bootstrap.yml")]
            assert reloaded
            assert {file._marker for file in reloaded} == {marker}


def test_only_the_first_db_host_can_give_birth_to_a_cluster(cluster: Context) -> None:
    able = [host for host, file, text in files(cluster) if "\nbootstrap:" in f"\n{text}"]
    assert able == [cluster.inventory.db[0].name]


def test_what_gives_birth_is_removed_after_the_cluster_is_recorded(cluster: Context) -> None:
    titles = [stage.title for step, stage in stages(cluster) if step.number == 2]
    assert titles.index("files") < titles.index("identity") < titles.index("born")
    removed = [(i.place, i.resource.id) for i in items(cluster) if isinstance(i.resource, Removed)]
    path = f"{cluster.inventory.cluster.base_dir}/patroni/bootstrap.yml"
    assert removed == [(cluster.inventory.db[0].name, f"removed:{path}")]
    assert f"file:{path}" in {item.resource.id for item in items(cluster)}


def test_the_addresses_of_raft_are_a_reason_to_start_anew(cluster: Context) -> None:
    """Patroni reads them once: each node's container is told apart, and knows all members."""
    specs = {
        item.place: item.resource.spec
        for item in items(cluster)
        if isinstance(item.resource, Container) and item.resource.spec.name == "patroni"
    }
    assert set(specs) == set(cluster.db_names)
    assert len({spec.restart_for for spec in specs.values()}) == len(specs)
    assert {spec.inputs for spec in specs.values()} == {next(iter(specs.values())).inputs}


def test_every_wait_has_a_deadline(cluster: Context) -> None:
    probes = [item.resource for item in items(cluster) if isinstance(item.resource, Probe)]
    assert len(probes) > 8
    assert all(0 <= probe._deadline <= 180 for probe in probes)


# --- plans of bare and of broken hosts ---------------------------------------------------------------


def bare(host: FakeHost, question: ShellFact[object]) -> Output:
    """Return what a host with nothing on it answers: no file, no directory, no Docker."""
    if isinstance(question, ContainersFact | ImagesFact):
        return Output(45, "")
    if isinstance(question, HardwareFact):
        return Output(0, f"{8 * GB}\n4\n")
    if isinstance(question, SystemFact):
        return Output(
            0, "id=debian\nmachine=x86_64\napt=yes\nhard=1048576\nnr_open=1048576\ncapabilities=0\n"
        )
    if isinstance(question, DiskFact):
        return Output(0, "/\n5000000 4096 100000 100000 ext4\n")
    if isinstance(question, PortsFact | DataFact):
        return Output(0, "")
    if question.key == "date":
        return Output(0, f"{time.time():.9f}\n")
    if isinstance(question, SysctlFact):
        return Output(0, "".join(f"{name.replace('.', '/')}:1\n" for name in question.names))
    return Output(44, "")


def plan(cluster: Context, answer: object) -> Run:
    hosts = {
        host.name: FakeHost(host.name, host.address, answers={object: answer})  # type: ignore[dict-item]
        for host in cluster.inventory.hosts
    }
    run = Run(cluster, hosts, FakeHost(CONTROLLER))
    run.plan(ALL)
    assert all(host.journal == [] for host in hosts.values())
    return run


def test_a_plan_of_bare_hosts_raises_nothing_and_shows_no_password(cluster: Context) -> None:
    outcomes = plan(cluster, bare).report.outcomes
    found = {(o.place, o.resource): o for o in outcomes if o.step.number < 6}
    assert {o.status for o in outcomes if o.resource == "preflight"} == {Status.OK}
    first = cluster.db_names[0]
    assert found[first, "container:patroni"].status is Status.DIFFERS
    assert found[first, "container:patroni"].lines == ("create",)
    assert found[CLUSTER, "patroni:config"].lines == ("not known yet: waits for a leader",)
    assert found[CONTROLLER, "image:patroni"].status is Status.DIFFERS
    lines = [(outcome.resource, line) for outcome in outcomes for line in outcome.lines]
    assert revealed("\n".join(line for _, line in lines)) == []
    assert [each for each in lines if "unexpected " in each[1]] == []


def test_a_bare_hosts_files_are_created_without_any_impact(cluster: Context) -> None:
    outcomes = plan(cluster, bare).report.outcomes
    never = f"file:{rules_path(cluster.inventory)}" if cluster.inventory.prepare.firewall == "off" else ""
    files = [o for o in outcomes if o.resource.startswith("file:") and o.place != CONTROLLER]
    created = [o for o in files if o.resource != never]
    assert created
    assert {(o.status, o.lines, int(o.impact)) for o in created} == {(Status.DIFFERS, ("create",), 0)}


def test_a_plan_of_silent_hosts_is_all_unknown(cluster: Context) -> None:
    run = Run(cluster, {}, FakeHost(CONTROLLER))
    report = run.plan(ALL)
    # a node that is silent does not say that it is paused
    quiet = (CLUSTER, CONTROLLER), "patroni:pause"
    hosts = [o for o in report.outcomes if o.place not in quiet[0] and o.resource != quiet[1]]
    assert {o.status for o in hosts} <= {Status.UNKNOWN, Status.FAILED}
    assert not any("unexpected" in line for o in report.outcomes for line in o.lines)


texts = st.text(max_size=20) | st.sampled_from(
    ["[]", "{}", "[{}]", "0:0 644\nabc  -\n", "1\n2\n3", "=\n", ":", "null"]
)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([0, 1, 44, 45, 46, 127]), texts, st.sampled_from(["five", "old"]))
def test_no_answer_of_a_host_breaks_a_plan(status: int, text: str, name: str) -> None:
    """Every parser gets everything: what it cannot read is unknown, with a reason."""
    run = plan(CONTEXTS[name], lambda host, question: Output(status, text, "trouble"))
    outcomes = run.report.outcomes
    assert len(outcomes) == len(items(CONTEXTS[name]))
    assert all(outcome.lines for outcome in outcomes if outcome.status is not Status.OK)


@pytest.mark.parametrize(
    ("role", "impact"), [("primary", Impact.SWITCHOVER), ("replica", Impact.RESTART), ("", Impact.RESTART)]
)
def test_a_node_that_leads_is_replaced_after_a_switchover(role: str, impact: Impact) -> None:
    cluster = CONTEXTS["default"]
    place, container = next(
        (i.place, i.resource) for i in items(cluster) if i.resource.id == "container:patroni"
    )
    assert isinstance(container, Container)
    knowledge = Knowledge()
    if role:
        status = NodeStatus("running", role, 1, "4.1.5", "7", False, False, False, ())
        knowledge.put(place, {NodeFact(cluster.inventory.ports.patroni).key: status})
    facts = Facts(knowledge, place)
    wanted = container.spec.state()
    assert container.impact(Change({**wanted, "image": "other"}, wanted), facts) is impact
    assert container.impact(Change({**wanted, "status": "exited"}, wanted), facts) is Impact.NONE
