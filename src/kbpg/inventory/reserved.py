"""Names that roles and databases cannot have, each with whose they are."""

READ_SUFFIX = "_ro"
"""PgBouncer serves each database of the inventory twice: by its name, and with this, for reads."""


def read_name(database: str) -> str:
    """Return the name by which PgBouncer serves `database` for reads."""
    return database + READ_SUFFIX


RESERVED_ROLES = {
    "replicator": "kbpg's replication role",
    "rewind_user": "kbpg's pg_rewind role",
    "pgbouncer_auth": "kbpg's role for PgBouncer's auth_query",
    "pgbouncer": "PgBouncer's own name for its console",
    "public": "SQL's word for all roles",
    "none": "SQL's word for no role",
    "all": "pg_hba.conf's word for all",
    "replication": "pg_hba.conf's word for replication connections",
    "sameuser": "a word of pg_hba.conf",
    "samerole": "a word of pg_hba.conf",
    "samegroup": "a word of pg_hba.conf",
    "current_user": "a word of SQL",
    "session_user": "a word of SQL",
    "current_role": "a word of SQL",
    "user": "a word of SQL",
}
RESERVED_DATABASES = {
    "postgres": "the maintenance database",
    "template0": "PostgreSQL's template",
    "template1": "PostgreSQL's template",
    "pgbouncer": "PgBouncer's console",
    read_name("postgres"): "where PgBouncer looks passwords of readers up",
    "all": "pg_hba.conf's word for all",
    "replication": "pg_hba.conf's word for replication connections",
    "sameuser": "a word of pg_hba.conf",
    "samerole": "a word of pg_hba.conf",
    "samegroup": "a word of pg_hba.conf",
}
