"""kbpg: a highly available PostgreSQL on a few plain servers."""

__version__ = "0.1.0"
