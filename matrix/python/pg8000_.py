"""pg8000, pure Python."""

import io
import ssl
import time

import pg8000.native

from exercise import *  # Steps read as a list.


def connect(**more):
    options = {"user": USER, "host": HOST, "port": PORT, "database": DATABASE, "password": PASSWORD}
    options["ssl_context"] = ssl.create_default_context(cafile=ROOT) if ROOT else False
    return pg8000.native.Connection(**options | more)


def queries(conn):
    step("simple query")
    equal(conn.run("select 1; select 2"), [[1], [2]])
    step("parameters")
    for word in WORDS:
        equal(conn.run("select cast(:a as text), cast(:b as int[])", a=word, b=[1, None]), [[word, [1, None]]])
    equal(conn.run("select cast(:a as bytea)", a=bytes(range(256))), [[bytes(range(256))]])
    step("prepared statements")
    prepared = conn.prepare("select cast(:a as int) + 1")
    for number in range(20):
        equal(prepared.run(a=number), [[number + 1]])
    prepared.close()


def transactions(conn):
    step("commit and rollback")
    conn.run("create table notes (id int primary key, body text)")
    for number, end in ((1, "commit"), (2, "rollback")):
        conn.run("begin")
        conn.run("insert into notes values (:a, 'x')", a=number)
        conn.run(end)
    equal(conn.run("select id from notes"), [[1]])
    step("error in a transaction")
    conn.run("begin")
    fails("22012", lambda: conn.run("select 1 / cast(:a as int)", a=0))
    fails("25P02", conn.run, "select 1")
    conn.run("rollback")
    equal(conn.run("select count(*) from notes"), [[1]])


def bulk(conn):
    text = "".join(f"{number}\trow {number}\n" for number in range(10, 10 + ROWS))
    step("COPY in with an error")
    fails("23505", lambda: conn.run("copy notes from stdin", stream=io.StringIO(text + "1\ttwice\n")))
    step("COPY in")
    conn.run("copy notes from stdin", stream=io.StringIO(text))
    step("COPY out")
    out = io.BytesIO()
    conn.run("copy notes to stdout", stream=out)
    equal(out.getvalue().count(b"\n"), ROWS + 1)
    step("large values")
    large = bytes(range(256)) * (LARGE // 256)
    equal(conn.run("select cast(:a as bytea)", a=large), [[large]])
    equal(conn.run("select repeat('é', :a)", a=LARGE), [["é" * LARGE]])


def others(conn):
    skip("pipeline", "pg8000 has none")
    step("LISTEN and NOTIFY")
    sender = connect()
    conn.run("listen news")
    # It reads payloads as ASCII.
    sender.run("select pg_notify('news', 'a payload')")
    deadline = time.monotonic() + 10
    while not conn.notifications and time.monotonic() < deadline:
        conn.run("select 1")
    equal([tuple(note) for note in conn.notifications],
          [(sender.run("select pg_backend_pid()")[0][0], "news", "a payload")])
    sender.close()
    skip("cancel", "pg8000 has none")
    step("many connections")

    def one(number):
        other = connect()
        equal(other.run("select cast(:a as int)", a=number), [[number]])
        other.close()

    in_threads(CONNECTIONS, one)


def write(number):
    conn = connect()
    try:
        while True:
            conn.run("begin")
            conn.run("select n from counters where id = :a for update", a=number)
            conn.run(COUNT + ":a", a=number)
            conn.run("commit")
            yield
            time.sleep(0.002)
    finally:
        conn.close()


def main():
    say(f"version {pg8000.__version__}")
    if PASSWORD:
        step("wrong password")
        fails("28P01", lambda: connect(password="wrong"))
    step("connect")
    conn = connect()
    queries(conn)
    transactions(conn)
    bulk(conn)
    others(conn)
    step("hold")
    conn.run(COUNTERS)
    conn.run(FILL_COUNTERS)
    told = hold_threads(write)
    equal(conn.run(TOLD), [[told]])
    conn.close()
    say("ok")


main()
