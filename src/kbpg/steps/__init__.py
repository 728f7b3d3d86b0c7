"""The steps, in order. Commands, help texts and documentation derive from this one tuple."""

from kbpg.model import Step
from kbpg.steps import (
    s00_credentials,
    s01_prepare,
    s02_patroni,
    s03_haproxy,
    s04_pgbouncer,
    s05_pgvector,
    s06_diagnostics,
)

ALL: tuple[Step, ...] = (
    s00_credentials.STEP,
    s01_prepare.STEP,
    s02_patroni.STEP,
    s03_haproxy.STEP,
    s04_pgbouncer.STEP,
    s05_pgvector.STEP,
    s06_diagnostics.STEP,
)
