"""libpq's own functions by ctypes: Debian's library, or (first argument) the one at a path."""

import ctypes
import os
import sys
import threading
import time

from exercise import *  # Steps read as a list.

PQ = ctypes.CDLL(sys.argv[1] if len(sys.argv) > 1 else "libpq.so.5")
POINTERS = "PQconnectdb PQexec PQexecParams PQprepare PQexecPrepared PQgetResult PQgetCancel PQnotifies PQfn"
for name in POINTERS.split():
    getattr(PQ, name).restype = ctypes.c_void_p
for name in "PQerrorMessage PQgetvalue PQresultErrorField PQcmdTuples PQparameterStatus".split():
    getattr(PQ, name).restype = ctypes.c_char_p
COMMAND, TUPLES, COPY_OUT, COPY_IN, FATAL = 1, 2, 3, 4, 7
PIPELINE_SYNC, PIPELINE_ABORTED = 10, 11


class Notify(ctypes.Structure):
    _fields_ = [("relname", ctypes.c_char_p), ("pid", ctypes.c_int), ("extra", ctypes.c_char_p)]


class Session:
    """One connection. Every pointer that libpq gives is kept as one of 64 bits."""

    def __init__(self, more=""):
        self.conn = ctypes.c_void_p(PQ.PQconnectdb(more.encode()))
        if PQ.PQstatus(self.conn) != 0:
            raise ConnectionError(PQ.PQerrorMessage(self.conn).decode())

    def close(self):
        PQ.PQfinish(self.conn)

    def take(self, pointer, status):
        """Rows as text of a result that has to have this status."""
        result = ctypes.c_void_p(pointer)
        seen = PQ.PQresultStatus(result)
        if seen != status:
            raise AssertionError(f"status {seen}: {PQ.PQerrorMessage(self.conn).decode()}")
        if status == FATAL:
            code = PQ.PQresultErrorField(result, ord("C")).decode()
            PQ.PQclear(result)
            return code
        rows = [[PQ.PQgetvalue(result, row, column).decode() for column in range(PQ.PQnfields(result))]
                for row in range(PQ.PQntuples(result))]
        PQ.PQclear(result)
        return rows

    def run(self, sql, status=COMMAND):
        return self.take(PQ.PQexec(self.conn, sql.encode()), status)

    def ask(self, sql, *values):
        return self.take(PQ.PQexecParams(self.conn, sql.encode(), *texts(values), 0), TUPLES)

    def next(self, status):
        return self.take(PQ.PQgetResult(self.conn), status)

    def end(self):
        equal(PQ.PQgetResult(self.conn), None)


def texts(values):
    encoded = [None if value is None else str(value).encode() for value in values]
    return len(values), None, (ctypes.c_char_p * len(values))(*encoded), None, None


def queries(session):
    step("simple query")
    equal(session.run("select 1; select 2", TUPLES), [["2"]])
    step("parameters")
    for word in WORDS:
        equal(session.ask("select coalesce($1, 'null')", word), [["null" if word is None else word]])
    step("prepared statements")
    session.take(PQ.PQprepare(session.conn, b"plus", b"select $1::int + 1", 0, None), COMMAND)
    for number in range(20):
        seen = session.take(PQ.PQexecPrepared(session.conn, b"plus", *texts([number])[:1], *texts([number])[2:], 0), TUPLES)
        equal(seen, [[str(number + 1)]])
    step("commit and rollback")
    session.run("create table notes (id int primary key, body text)")
    session.run("begin; insert into notes values (1, 'kept'); commit")
    session.run("begin; insert into notes values (2, 'lost'); rollback")
    equal(session.run("select id from notes", TUPLES), [["1"]])
    step("error in a transaction")
    session.run("begin")
    equal(session.run("select 1 / 0", FATAL), "22012")
    equal(session.run("select 1", FATAL), "25P02")
    equal(PQ.PQtransactionStatus(session.conn), 3)
    session.run("rollback")


def bulk(session):
    for kind in ("COPY in with an error", "COPY in"):
        step(kind)
        session.run("copy notes from stdin", COPY_IN)
        for number in range(10, 10 + ROWS):
            line = f"{number}\trow {number}\n".encode()
            equal(PQ.PQputCopyData(session.conn, line, len(line)), 1)
        equal(PQ.PQputCopyEnd(session.conn, b"given up" if kind != "COPY in" else None), 1)
        if kind == "COPY in":
            session.next(COMMAND)
        else:
            equal(session.next(FATAL), "57014")
        session.end()
    step("COPY out")
    session.run("copy notes to stdout", COPY_OUT)
    line, count = ctypes.c_void_p(), 0
    while PQ.PQgetCopyData(session.conn, ctypes.byref(line), 0) > 0:
        PQ.PQfreemem(line)
        count += 1
    equal(count, ROWS + 1)
    session.next(COMMAND)
    session.end()
    step("single rows")
    equal(PQ.PQsendQuery(session.conn, b"select id from notes"), 1)
    equal(PQ.PQsetSingleRowMode(session.conn), 1)
    for _ in range(ROWS + 1):
        session.next(9)
    session.next(TUPLES)
    session.end()
    step("large values")
    large = "x" * LARGE
    equal(session.ask("select $1::text", large), [[large]])
    step("function call")
    # int4pl(2, 3), whose OID never changed.
    class Argument(ctypes.Structure):
        _fields_ = [("len", ctypes.c_int), ("isint", ctypes.c_int), ("integer", ctypes.c_int), ("pad", ctypes.c_int)]
    arguments = (Argument * 2)(Argument(4, 1, 2), Argument(4, 1, 3))
    answer, length = ctypes.c_int(), ctypes.c_int()
    session.take(PQ.PQfn(session.conn, 177, ctypes.byref(answer), ctypes.byref(length), 1, arguments, 2), COMMAND)
    equal(answer.value, 5)


def send(session, sql, *values):
    equal(PQ.PQsendQueryParams(session.conn, sql.encode(), *texts(values), 0), 1)


def pipeline(session):
    step("pipeline")
    equal(PQ.PQenterPipelineMode(session.conn), 1)
    for number in range(500):
        send(session, "select $1::int", number)
        if number % 7 == 0:
            equal(PQ.PQpipelineSync(session.conn), 1)
    equal(PQ.PQpipelineSync(session.conn), 1)
    for number in range(500):
        equal(session.next(TUPLES), [[str(number)]])
        session.end()
        if number % 7 == 0:
            session.next(PIPELINE_SYNC)
    session.next(PIPELINE_SYNC)
    step("flush without sync")
    send(session, "select 'early'")
    equal(PQ.PQsendFlushRequest(session.conn), 1)
    equal(PQ.PQflush(session.conn), 0)
    equal(session.next(TUPLES), [["early"]])
    session.end()
    step("error in a pipeline")
    send(session, "insert into notes values (5, 'rolled back')")
    send(session, "select 1 / $1::int", 0)
    send(session, "insert into notes values (6, 'skipped')")
    equal(PQ.PQpipelineSync(session.conn), 1)
    send(session, "select count(*) from notes where id in (5, 6)")
    equal(PQ.PQpipelineSync(session.conn), 1)
    session.next(COMMAND)
    session.end()
    equal(session.next(FATAL), "22012")
    session.end()
    session.next(PIPELINE_ABORTED)
    session.end()
    session.next(PIPELINE_SYNC)
    equal(session.next(TUPLES), [["0"]])
    session.end()
    session.next(PIPELINE_SYNC)
    equal(PQ.PQexitPipelineMode(session.conn), 1)


def others(session):
    step("LISTEN and NOTIFY")
    sender = Session()
    session.run("listen news")
    sender.run("notify news, 'ä payload'")
    deadline, note = time.monotonic() + 10, None
    while not note and time.monotonic() < deadline:
        equal(PQ.PQconsumeInput(session.conn), 1)
        note = PQ.PQnotifies(session.conn)
    note = ctypes.cast(note, ctypes.POINTER(Notify)).contents
    equal((note.relname, note.pid, note.extra.decode()), (b"news", PQ.PQbackendPID(sender.conn), "ä payload"))
    sender.close()
    step("cancel")
    cancel = ctypes.c_void_p(PQ.PQgetCancel(session.conn))
    said = ctypes.create_string_buffer(256)
    timer = threading.Timer(0.3, PQ.PQcancel, (cancel, said, 256))
    timer.start()
    equal(session.run("select pg_sleep(60)", FATAL), "57014")
    timer.join()
    step("many connections")

    def one(number):
        other = Session()
        equal(other.ask("select $1::int", number), [[str(number)]])
        other.close()

    in_threads(CONNECTIONS, one)


def write(number):
    session = Session()
    try:
        while True:
            session.run("begin")
            session.ask("select n from counters where id = $1 for update", number)
            session.run(f"{COUNT}{number}")
            session.run("commit")
            yield
            time.sleep(0.002)
    finally:
        session.close()


def main():
    number = PQ.PQlibVersion()
    say(f"version {number // 10000}.{number % 100}")
    if PASSWORD:
        step("wrong password")
        try:
            Session("password=wrong")
        except ConnectionError as error:
            equal("password authentication failed" in str(error), True)
    step("connect")
    session = Session()
    equal(bool(PQ.PQsslInUse(session.conn)), bool(ROOT))
    if number >= 180000:
        step("protocol 3.2")
        newest = Session("max_protocol_version=latest")
        server = PQ.PQserverVersion(newest.conn)
        # Where pgdrain checks clients itself, it answers before it knows the server.
        newer = server >= 180000 or "MATRIX_TERMINATED" in os.environ
        equal(PQ.PQfullProtocolVersion(newest.conn), 30002 if newer else 30000)
        newest.close()
    queries(session)
    bulk(session)
    pipeline(session)
    others(session)
    step("hold")
    session.run(COUNTERS)
    session.run(FILL_COUNTERS)
    told = hold_threads(write)
    equal(session.run(TOLD, TUPLES), [[str(told)]])
    session.close()
    say("ok")


main()
