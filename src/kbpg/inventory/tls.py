"""Whether connections are encrypted and verified, and whose certificates they use."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from kbpg.inventory.section import Section
from kbpg.inventory.types import LocalPath, as_plain

Mode = Literal["off", "require"]
DEFAULT_MODE: Mode = "require"
"""The mode of an inventory that says nothing."""


class Tls(Section):
    """Encryption between all programs and to clients. `tls: require` is short for `tls: {mode: require}`."""

    word: ClassVar[str] = "mode"

    mode: Annotated[Mode, BeforeValidator(as_plain)] = Field(
        DEFAULT_MODE,
        description="off: nothing is required, passwords are SCRAM, data travel in clear; require: every hop is "
        "encrypted and verified",
    )
    certificates: LocalPath | None = Field(
        None,
        description="directory with certificates of your own authority: ca.crt, and NAME.crt and NAME.key for every "
        "host and for kbpg (null: kbpg issues them, under pki/ beside the credentials file)",
    )
