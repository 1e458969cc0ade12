"""psycopg2, and replication connections by it: its libpq is new enough for every server here."""

import io
import select
import threading
import time

import psycopg2
import psycopg2.extras

from exercise import *  # Steps read as a list.


def connect(**more):
    conn = psycopg2.connect("", **more)
    conn.autocommit = True
    return conn


def ask(conn, sql, values=None):
    with conn.cursor() as cur:
        cur.execute(sql, values)
        return cur.fetchall() if cur.description else None


def transactions(conn):
    step("simple query")
    equal(ask(conn, "select 1; select 2"), [(2,)])
    step("parameters")
    for word in WORDS:
        equal(ask(conn, "select %s, %s", (word, [1, None])), [(word, [1, None])])
    step("commit and rollback")
    ask(conn, "create table notes (id int primary key, body text)")
    conn.autocommit = False
    ask(conn, "insert into notes values (1, 'kept')")
    conn.commit()
    ask(conn, "insert into notes values (2, 'lost')")
    conn.rollback()
    step("error in a transaction")
    fails("22012", ask, conn, "select 1 / 0")
    fails("25P02", ask, conn, "select 1")
    conn.rollback()
    equal(ask(conn, "select id from notes"), [(1,)])
    conn.commit()


def bulk(conn):
    text = "".join(f"{number}\trow {number}\n" for number in range(10, 10 + ROWS))
    with conn.cursor() as cur:
        step("COPY in with an error")
        fails("23505", cur.copy_expert, "copy notes from stdin", io.StringIO(text + "1\ttwice\n"))
        conn.rollback()
        step("COPY in")
        cur.copy_expert("copy notes from stdin", io.StringIO(text))
        step("COPY out")
        out = io.StringIO()
        cur.copy_expert("copy notes to stdout", out)
        equal(out.getvalue().count("\n"), ROWS + 1)
    conn.commit()
    step("large object")
    made = conn.lobject(0, "wb")
    made.write(b"ab" * (LARGE // 2))
    made.close()
    read = conn.lobject(made.oid, "rb")
    equal(read.read(), b"ab" * (LARGE // 2))
    conn.commit()
    conn.autocommit = True


def others(conn):
    step("LISTEN and NOTIFY")
    sender = connect()
    ask(conn, "listen news")
    ask(sender, "select pg_notify('news', 'ä payload')")
    equal(bool(select.select([conn], [], [], 10)[0]), True)
    conn.poll()
    note = conn.notifies.pop()
    equal((note.pid, note.channel, note.payload), (sender.info.backend_pid, "news", "ä payload"))
    sender.close()
    step("cancel")
    timer = threading.Timer(0.3, conn.cancel)
    timer.start()
    fails("57014", ask, conn, "select pg_sleep(60)")
    timer.join()
    step("many connections")

    def one(number):
        other = connect()
        equal(ask(other, "select %s", (number,)), [(number,)])
        other.close()

    in_threads(CONNECTIONS, one)


def replication(conn):
    step("logical replication")
    stream = psycopg2.connect("", connection_factory=psycopg2.extras.LogicalReplicationConnection)
    cur = stream.cursor()
    slot = f"slot_{DATABASE}"
    cur.create_replication_slot(slot, output_plugin="pgoutput")
    ask(conn, "create publication everything for all tables")
    cur.start_replication(slot, options={"proto_version": "1", "publication_names": "everything"}, decode=False)
    ask(conn, "insert into notes values (3, 'streamed')")
    deadline = time.monotonic() + 30
    kinds = b""
    while b"C" not in kinds or b"I" not in kinds:
        message = cur.read_message()
        if message:
            kinds += message.payload[:1]
            cur.send_feedback(flush_lsn=message.data_start)
        elif time.monotonic() > deadline:
            raise AssertionError(f"only {kinds} came")
        else:
            select.select([stream], [], [], 1)
    stream.close()
    step("physical replication")
    stream = psycopg2.connect("", connection_factory=psycopg2.extras.PhysicalReplicationConnection)
    cur = stream.cursor()
    cur.start_replication(start_lsn=ask(conn, "select pg_current_wal_flush_lsn()")[0][0])
    ask(conn, "insert into notes values (4, 'logged')")
    deadline = time.monotonic() + 30
    while not cur.read_message():
        equal(time.monotonic() < deadline, True)
        select.select([stream], [], [], 1)
    stream.close()
    while ask(conn, "select active from pg_replication_slots where slot_name = %s", (slot,))[0][0]:
        equal(time.monotonic() < deadline, True)
    ask(conn, "select pg_drop_replication_slot(%s)", (slot,))


def write(number):
    conn = connect()
    conn.autocommit = False
    try:
        while True:
            ask(conn, "select n from counters where id = %s for update", (number,))
            ask(conn, COUNT + "%s", (number,))
            conn.commit()
            yield
            time.sleep(0.002)
    finally:
        conn.close()


def main():
    number = psycopg2.extensions.libpq_version()
    say(f"version {psycopg2.__version__.split()[0]}, libpq {number // 10000}.{number % 100}")
    step("connect")
    conn = connect()
    equal(conn.info.ssl_in_use, bool(ROOT))
    transactions(conn)
    bulk(conn)
    others(conn)
    replication(conn)
    step("hold")
    ask(conn, COUNTERS)
    ask(conn, FILL_COUNTERS)
    told = hold_threads(write)
    equal(ask(conn, TOLD), [(told,)])
    conn.close()
    say("ok")


main()
