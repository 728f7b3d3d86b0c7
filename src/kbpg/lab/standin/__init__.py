"""Stand-ins for the three public base images, made from packages, for machines without a registry.

They carry the public images' tags, so that the project's Dockerfiles run unchanged, and the label
`kbpg.stand-in=1`, so that nobody takes them for the real ones.
"""

from __future__ import annotations

from kbpg.lab.standin.debian import build_debian
from kbpg.lab.standin.pgvector import PG16_11, Recipe, build_pgvector
from kbpg.lab.standin.python import build_python

__all__ = ["PG16_11", "Recipe", "build_debian", "build_pgvector", "build_python"]
