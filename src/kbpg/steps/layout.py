"""The names of `kbpg.layout`, where steps have always found them."""

from kbpg.layout import DB_CONTAINERS as DB_CONTAINERS
from kbpg.layout import HAPROXY as HAPROXY
from kbpg.layout import OWNER as OWNER
from kbpg.layout import PATRONI as PATRONI
from kbpg.layout import PGBOUNCER as PGBOUNCER
from kbpg.layout import POOLER_USER as POOLER_USER
from kbpg.layout import PROXY_CONTAINERS as PROXY_CONTAINERS
from kbpg.layout import REPLICATION_USER as REPLICATION_USER
from kbpg.layout import REWIND_USER as REWIND_USER
from kbpg.layout import Layout as Layout
from kbpg.layout import layout as layout
