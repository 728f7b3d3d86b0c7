"""What a host must be before kbpg changes anything on it."""

from kbpg.resources.preflight.clock import ClockFact
from kbpg.resources.preflight.disk import DiskFact
from kbpg.resources.preflight.ports import Needed, PortsFact
from kbpg.resources.preflight.resource import Preflight
from kbpg.resources.preflight.subject import Needs, Problem, Subject
from kbpg.resources.preflight.system import System, SystemFact

__all__ = [
    "ClockFact",
    "DiskFact",
    "Needed",
    "Needs",
    "PortsFact",
    "Preflight",
    "Problem",
    "Subject",
    "System",
    "SystemFact",
]
