"""What fault drills need to know of the hosts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kbpg.inventory.section import Section
from kbpg.inventory.types import Text

Command = Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]


class Drills(Section):
    """How `kbpg drill` switches hosts off and on; a lab's hosts need none of it."""

    power_off: Command | None = Field(
        None,
        description="command of the controller that cuts a host's power, as a list of words, in which {host} and "
        "{address} are replaced (null: drills that need it are refused)",
    )
    power_on: Command | None = Field(
        None, description="command of the controller that switches a host on; one that is on stays on"
    )
