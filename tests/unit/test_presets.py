"""Failover presets: they give defaults, keys that are given win, and the timers of each belong together."""

from __future__ import annotations

import re

import pytest

from kbpg import dynamic
from kbpg.errors import InventoryError
from kbpg.inventory import Inventory, parse
from kbpg.inventory.preset_reference import preset_inventory, preset_reference
from kbpg.inventory.presets import PRESETS
from kbpg.inventory.rules import WATCHDOG_MARGIN
from kbpg.inventory.section import section_of
from kbpg.prediction import recovery_times
from kbpg.render import render
from kbpg.tls import Transport

HOSTS = """
cluster: {name: test}
db: [{name: a, address: 192.0.2.1}, {name: b, address: 192.0.2.2}, {name: c, address: 192.0.2.3}]
proxies: [{name: p, address: 192.0.2.11}]
"""


def inventory(more: str = "") -> Inventory:
    return parse(more + HOSTS, "inventory.yaml")


@pytest.mark.parametrize("name", PRESETS)
def test_patroni_accepts_the_timers_of_every_preset(name: str) -> None:
    configuration = dynamic.configuration(inventory(f"failover: {name}"), {})
    ttl, loop_wait = configuration["ttl"], configuration["loop_wait"]
    retry = configuration["retry_timeout"]
    assert ttl >= 20
    assert loop_wait >= 1
    assert retry >= 3
    assert loop_wait + 2 * retry <= ttl
    assert 2 * (loop_wait + WATCHDOG_MARGIN) <= ttl


@pytest.mark.parametrize("name", PRESETS)
def test_clients_may_wait_longer_than_any_failover_takes(name: str) -> None:
    found = inventory(f"failover: {name}")
    assert found.pgbouncer.query_wait_timeout > 1.5 * max(r.high for r in recovery_times(found))


@pytest.mark.parametrize("name", PRESETS)
def test_the_old_leader_is_out_before_its_lock_expires(name: str) -> None:
    h = inventory(f"failover: {name}").haproxy
    out = (h.check_interval + (h.check_fall - 1) * h.check_fast_interval) / 1000 + 2  # `timeout check 2s`
    assert out < inventory(f"failover: {name}").timers.ttl / 2


def test_the_default_is_fast_and_fast_is_what_the_models_say() -> None:
    assert inventory() == inventory("failover: fast")
    for section, keys in PRESETS["fast"].items():
        model = section_of(Inventory.model_fields[section].annotation)
        assert model is not None
        assert {key: model.model_fields[key].default for key in keys} == keys


def test_every_preset_names_the_same_keys() -> None:
    shapes = [{s: set(keys) for s, keys in preset.items()} for preset in PRESETS.values()]
    assert all(shape == shapes[0] for shape in shapes)


def test_a_preset_reaches_patroni_haproxy_and_pgbouncer() -> None:
    found = inventory("failover: tolerant")
    assert dynamic.configuration(found, {})["primary_start_timeout"] == 60
    haproxy = render("haproxy/haproxy.cfg.j2", inventory=found, host=found.proxies[0], tls=Transport("off"))
    assert "inter 2000ms fastinter 1000ms downinter 1000ms fall 3 rise 2" in haproxy
    assert found.pgbouncer.query_wait_timeout == 180


@pytest.mark.parametrize("name", PRESETS)
def test_with_tls_a_node_that_says_no_is_out_as_soon_and_one_that_is_busy_later(name: str) -> None:
    found = inventory(f"failover: {name}")
    times = {}
    for mode in ("off", "require"):
        text = render("haproxy/haproxy.cfg.j2", inventory=found, host=found.proxies[0], tls=Transport(mode))
        inter, fast, fall = map(
            int, re.findall(r"inter (\d+)ms fastinter (\d+)ms downinter \d+ms fall (\d+)", text)[0]
        )
        times[mode] = (inter + (fall - 1) * fast, fall * inter)
    assert times["require"][0] <= times["off"][0]
    assert times["require"][1] >= 2000


def test_a_key_that_is_given_wins() -> None:
    found = inventory("failover: balanced\ntimers: {ttl: 40}\nhaproxy:\npgbouncer: {pool_size: 9}")
    assert (found.timers.ttl, found.timers.loop_wait) == (40, 5)
    assert found.haproxy.check_interval == 1000
    assert (found.pgbouncer.pool_size, found.pgbouncer.query_wait_timeout) == (9, 90)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("failover: quick", "inventory.yaml:1: failover: wanted fast, balanced or tolerant"),
        ("failover: [fast]", "inventory.yaml:1: failover: wanted fast, balanced or tolerant"),
        ("failover: balanced\ntimers: {ttl: 20}", "timers.ttl: Patroni wants"),
        ("failover: tolerant\nhaproxy: {check_interval: 500}", "wanted no more than check_interval"),
        ("failover: tolerant\ntimers: 5", "timers: wanted keys and values"),
    ],
)
def test_what_does_not_go_together_is_refused(more: str, words: str) -> None:
    with pytest.raises(InventoryError) as caught:
        inventory(more)
    assert [problem for problem in caught.value.problems if words in problem], caught.value.problems


def test_the_reference_has_the_predicted_times_of_every_preset() -> None:
    text = preset_reference()
    for row, recovery in enumerate(recovery_times(preset_inventory("fast"))):
        ranges = [recovery_times(preset_inventory(name))[row].range for name in PRESETS]
        assert f"| {recovery.title} | {' | '.join(ranges)} |" in text
