"""Patroni's dynamic configuration: what all nodes share, kept in Raft and changed through PATCH /config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kbpg.inventory import version_tuple

if TYPE_CHECKING:
    from kbpg.inventory import Inventory

Parameter = str | int | float | bool


def configuration(inventory: Inventory, parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """Return the whole dynamic configuration, as `bootstrap.dcs` and as what GET /config must answer.

    `parameters` are PostgreSQL's, from `tuning.parameters`. Every setting that kbpg cares about is written
    out, also where it is Patroni's default, so that a hand-made change of it differs from what is wanted.
    Times are seconds, lags bytes. Keys checked against patroni/validator.py and patroni/global_config.py of
    3.3.11 and 4.1.5.
    """
    timers = inventory.timers
    return {
        "ttl": timers.ttl,
        "loop_wait": timers.loop_wait,
        "retry_timeout": timers.retry_timeout,
        "maximum_lag_on_failover": timers.maximum_lag_on_failover,
        "primary_start_timeout": timers.primary_start_timeout,
        "check_timeline": True,  # a replica on an older timeline does not become leader
        # A leader that lost Raft's quorum steps down, even if it still reaches every node. Failsafe mode
        # would keep it writing, but Patroni's own tests skip it with Raft (features/environment.py).
        "failsafe_mode": False,
        "synchronous_mode": synchronous_mode(inventory),
        "synchronous_mode_strict": inventory.cluster.synchronous == "strict",
        "synchronous_node_count": synchronous_nodes(len(inventory.db)),
        **({"member_slots_ttl": timers.member_slots_ttl} if _is_patroni_4(inventory) else {}),
        "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": dict(parameters)},
    }


def _is_patroni_4(inventory: Inventory) -> bool:
    """Return whether this Patroni knows quorum commit and slots that outlive a member's key: new in 4.0.0."""
    return version_tuple(inventory.versions.patroni) >= (4, 0, 0)


def synchronous_mode(inventory: Inventory) -> str | bool:
    """Return Patroni's synchronous_mode: `quorum` where it is known (since 4.0), else true; false for off."""
    if inventory.cluster.synchronous == "off":
        return False
    return "quorum" if _is_patroni_4(inventory) else True


def synchronous_nodes(nodes: int) -> int:
    """Return how many replicas acknowledge a commit, of a cluster of `nodes` members.

    As many as may be lost together with Raft still having a quorum: (nodes - 1) / 2. With fewer, the loss of
    the leader and one replica of five would leave Patroni unable to tell whether a survivor has every commit.
    """
    return max(1, (nodes - 1) // 2)
