"""psycopg 3, with the libpq that its wheel brings along."""

import threading
import time

import psycopg
from psycopg import pq

from exercise import *  # Steps read as a list.


def connect(**more):
    # Everything else is in libpq's environment variables.
    return psycopg.connect(**more)


def queries(conn):
    step("simple query")
    cur = conn.execute("select 1 as a; select 2 as b")
    equal(cur.fetchone(), (1,))
    equal(cur.nextset(), True)
    equal(cur.fetchone(), (2,))
    step("parameters")
    for word in WORDS:
        equal(conn.execute("select %s::text, %s::int[]", (word, [1, None])).fetchone(), (word, [1, None]))
    equal(conn.execute("select %b::bytea", (bytes(range(256)),), binary=True).fetchone(), (bytes(range(256)),))
    step("prepared statements")
    for number in range(20):
        equal(conn.execute("select %s::int + 1", (number,), prepare=True).fetchone(), (number + 1,))
    conn.prepare_threshold = 0
    equal(conn.execute("select count(*) > 0 from pg_prepared_statements").fetchone(), (True,))


def transactions(conn):
    step("commit and rollback")
    conn.execute("create table notes (id int primary key, body text)")
    conn.commit()
    with conn.transaction():
        conn.execute("insert into notes values (1, 'kept')")
    with conn.transaction(force_rollback=True):
        conn.execute("insert into notes values (2, 'lost')")
    equal(conn.execute("select id from notes").fetchall(), [(1,)])
    step("error in a transaction")
    fails("22012", conn.execute, "select 1 / %s", (0,))
    fails("25P02", conn.execute, "select 1")
    conn.rollback()
    with conn.transaction():
        try:
            with conn.transaction():
                conn.execute("insert into notes values (1, 'twice')")
        except psycopg.errors.UniqueViolation:
            conn.execute("insert into notes values (3, 'after the savepoint')")
    equal(conn.execute("select count(*) from notes").fetchone(), (2,))
    conn.commit()


def bulk(conn):
    step("COPY in")
    with conn.cursor() as cur:
        with cur.copy("copy notes from stdin") as copy:
            for number in range(10, 10 + ROWS):
                copy.write_row((number, f"row {number}"))
        step("COPY in with an error")
        try:
            with cur.copy("copy notes from stdin") as copy:
                for _ in range(ROWS):
                    copy.write_row((1, "twice"))
        except psycopg.errors.UniqueViolation:
            conn.rollback()
        else:
            raise AssertionError("a duplicate key passed")
        with cur.copy("copy notes from stdin") as copy:
            for number in range(10, 10 + ROWS):
                copy.write_row((number, f"row {number}"))
        conn.commit()
        step("COPY out")
        with cur.copy("copy notes to stdout (format binary)") as copy:
            copy.set_types(["int4", "text"])
            equal(sum(1 for _ in copy.rows()), ROWS + 2)
    step("cursor")
    with conn.cursor(name="walk") as cur:
        cur.itersize = 777
        cur.execute("select id from notes")
        equal(sum(1 for _ in cur), ROWS + 2)
    conn.commit()
    step("large values")
    large = bytes(range(256)) * (LARGE // 256)
    equal(conn.execute("select %b::bytea", (large,), binary=True).fetchone()[0], large)
    equal(conn.execute("select repeat('é', %s)", (LARGE,)).fetchone()[0], "é" * LARGE)
    conn.commit()


def pipeline(conn):
    step("pipeline")
    conn.autocommit = True
    with conn.pipeline() as pipe:
        cursors = [conn.execute("select %s::int", (number,)) for number in range(500)]
        pipe.sync()
        equal([cur.fetchone()[0] for cur in cursors], list(range(500)))
    step("error in a pipeline")
    try:
        with conn.pipeline() as pipe:
            conn.execute("select 1 / %s", (0,))
            conn.execute("insert into notes values (5, 'skipped by the server')")
            pipe.sync()
    except psycopg.errors.DivisionByZero:
        pass
    equal(conn.execute("select count(*) from notes where id = 5").fetchone(), (0,))


def others(conn):
    step("LISTEN and NOTIFY")
    with connect(autocommit=True) as sender:
        conn.execute("listen news")
        sender.execute("select pg_notify('news', 'ä payload')")
        note = next(conn.notifies(timeout=10))
        equal((note.channel, note.payload, note.pid), ("news", "ä payload", sender.info.backend_pid))
    step("cancel")
    for cancel in (conn.cancel, lambda: conn.cancel_safe(timeout=10)):
        timer = threading.Timer(0.3, cancel)
        timer.start()
        fails("57014", conn.execute, "select pg_sleep(60)")
        timer.join()
    equal(conn.execute("select 1").fetchone(), (1,))
    step("many connections")

    def one(number):
        with connect() as other:
            equal(other.execute("select %s::int", (number,)).fetchone(), (number,))

    in_threads(CONNECTIONS, one)


def write(number):
    with connect(autocommit=True) as conn:
        while True:
            with conn.transaction():
                conn.execute("select n from counters where id = %s for update", (number,))
                conn.execute(COUNT + "%s", (number,))
            yield
            time.sleep(0.002)


def main():
    say(f"version {psycopg.__version__}, libpq {pq.version() // 10000}.{pq.version() % 100}")
    if PASSWORD:
        step("wrong password")
        try:
            connect(password="wrong")
        except psycopg.OperationalError as error:
            equal("password authentication failed" in str(error), True)
    step("connect")
    with connect() as conn:
        equal(bool(conn.pgconn.ssl_in_use), bool(ROOT))
        queries(conn)
        transactions(conn)
        bulk(conn)
        pipeline(conn)
        others(conn)
        step("hold")
        conn.execute(COUNTERS)
        conn.execute(FILL_COUNTERS)
        equal(conn.execute("select 1").fetchone(), (1,))
        told = hold_threads(write)
        equal(conn.execute(TOLD).fetchone(), (told,))
    say("ok")


main()
