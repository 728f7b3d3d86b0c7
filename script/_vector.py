"""Write and read a vector at the URI on standard input: it holds a password, so it is no argument."""

import sys

import psycopg

with psycopg.connect(sys.stdin.readline().strip(), autocommit=True, prepare_threshold=None) as connection:
    connection.execute("create table if not exists demo (id serial primary key, embedding vector(3))")
    connection.execute("insert into demo (embedding) values ('[1,2,3]'), ('[4,5,6]')")
    nearest = connection.execute(
        "select id, embedding, embedding <-> '[1,2,4]' from demo order by embedding <-> '[1,2,4]', id desc"
    ).fetchone()
    assert nearest is not None, "what was just written is not there"
    print(f"  nearest to [1,2,4]: id {nearest[0]}, {nearest[1]}, distance {nearest[2]:g}")
