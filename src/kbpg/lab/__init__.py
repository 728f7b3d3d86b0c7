"""The lab: five throw-away hosts on this machine, each a container with sshd and its own Docker daemon."""

from __future__ import annotations

from kbpg.lab.lab import HostStatus, LabStatus, down, running_addresses, running_host, status, up
from kbpg.lab.layout import LabHost

__all__ = ["HostStatus", "LabHost", "LabStatus", "down", "running_addresses", "running_host", "status", "up"]
