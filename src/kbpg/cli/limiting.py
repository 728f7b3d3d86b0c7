"""Which commands take `--limit`, and what the others say to it: none ignores it."""

from __future__ import annotations

from functools import partial
from typing import Any

from kbpg.errors import UsageError

TAKE = frozenset(
    {"apply-all", "step", "plan", "diagnose", "restart", "journal", "journal show", "credentials renew-tls"}
)
"""The commands that do less with `--limit`; all others refuse it."""

EDIT = "while one is away for long: change the inventory, then kbpg apply-all --limit with the others"
"""The way of `config set` without it."""
ALL_HOSTS = "every host has to be there: a new password is proven on each"
"""Why passwords are not rotated while a host is away."""

_WHOLE = {
    "failover": ("the cluster has one leader: failover takes no --limit", "--to HOST says who is to lead"),
    "switchover": (
        "the cluster has one leader: switchover takes no --limit",
        "--to HOST says who is to lead",
    ),
    "reinit": ("reinit clones the one replica that it is given, and takes no --limit", None),
    "pause": ("Patroni is paused on all nodes: pause takes no --limit", None),
    "resume": ("Patroni is paused on all nodes: resume takes no --limit", None),
    "psql": ("psql is on one node and takes no --limit", "--host HOST says on which"),
    "logs": ("logs shows the one host that it is given, and takes no --limit", None),
    "destroy": ("destroy takes the whole cluster, not --limit", None),
    "config set": (
        "the configuration is that of all nodes: config set takes no --limit",
        EDIT,
    ),
    "config show": ("the configuration is that of all nodes: config show takes no --limit", None),
    "credentials rotate": (
        "a password is that of the whole cluster: credentials rotate takes no --limit",
        ALL_HOSTS,
    ),
}
"""What is said, with a hint, by command; the others have the sentence of their group, or the general one."""
_GROUPS = {
    "raft": "the consensus is that of all db hosts: {} takes no --limit",
    "credentials": "the credentials are those of the whole cluster: {} takes no --limit",
    "inventory": "the inventory is looked at whole: {} takes no --limit",
    "lab": "a lab has all its hosts or none: {} takes no --limit",
}


def takes_limit(name: str, command: Any) -> bool:
    """Return whether the command of this name, or any below it, does less with `--limit`."""
    below = getattr(command, "commands", {})
    return name in TAKE or any(takes_limit(f"{name} {each}".strip(), inner) for each, inner in below.items())


def refuse_limit(name: str, command: Any) -> None:
    """Let a command end with a `UsageError` where `--limit` was given, wherever it stood, before it does anything."""
    command.invoke = partial(_refusing, name, command.invoke)


def _refusing(name: str, invoke: Any, ctx: Any) -> Any:
    if ctx.obj.limit:
        raise _error(name)
    return invoke(ctx)


def _error(name: str) -> UsageError:
    default = _GROUPS.get(name.partition(" ")[0], "{} is about the whole cluster and takes no --limit")
    sentence, hint = _WHOLE.get(name, (default.format(name), None))
    return UsageError(sentence, hint=hint)
