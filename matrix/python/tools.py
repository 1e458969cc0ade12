"""Postgres's own programs (first argument), as they are called in a shell. Needs no package."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from exercise import *  # Steps read as a list.

BIN = Path(os.environ["MATRIX_TOOLS"])


def run(program, *arguments, text=None, code=0):
    """Runs a program; gives its output, and its complaints behind it if it had to fail."""
    ran = subprocess.run([BIN / program, *arguments], input=text, text=True, capture_output=True)
    if ran.returncode != code:
        raise AssertionError(f"{program} {arguments}: exit code {ran.returncode}\n{ran.stdout[-500:]}{ran.stderr[-1000:]}")
    return ran.stdout + (ran.stderr if code else "")


def psql(text, *more, code=0):
    return run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", *more, text=text, code=code)


def during_hold(work):
    """Repeats `work` from before the runner's hold until after it."""
    done = threading.Event()

    def control(number):
        if number == 1:
            try:
                return opened()
            finally:
                done.set()
        after = 0
        while after < 2:
            work()
            after += done.is_set()
        return None

    in_threads(2, control)


def version(program):
    say(f"version {run(program, '--version').split()[2]}")


def do_psql():
    version("psql")
    if PASSWORD:
        step("wrong password")
        said = run("psql", "-XAtqc", "select 1", f"password=wrong dbname={DATABASE}", code=2)
        equal("password authentication failed" in said, True)
    step("connect")
    equal(psql("select 1; select 'ü'\\; select null;"), "1\nü\n\n")
    step("commit and rollback")
    psql("create table notes (id int primary key, body text);"
         "begin; insert into notes values (1, 'kept'); commit; begin; insert into notes values (2, 'lost'); rollback;")
    step("error in a transaction")
    said = run("psql", "-XAtq", "-v", "VERBOSITY=verbose",
               text="begin; select 1/0; select 1; rollback; select count(*) from notes;\n", code=0)
    equal(said, "1\n")
    said = psql("begin;\n\\set ON_ERROR_ROLLBACK on\nselect 1/0;\ncommit;", "-v", "VERBOSITY=sqlstate", code=3)
    equal("22012" in said, True)
    step("COPY in and out")
    rows = "".join(f"{number}\trow {number}\n" for number in range(10, 10 + ROWS))
    psql(f"\\copy notes from stdin\n{rows}\\.\n")
    equal(psql("\\copy notes to stdout\n").count("\n"), ROWS + 1)
    step("cursor")
    equal(psql("select id from notes;", "-v", "FETCH_COUNT=777").count("\n"), ROWS + 1)
    step("large values")
    equal(psql(f"select '{'x' * LARGE}';"), "x" * LARGE + "\n")
    step("commands of psql")
    equal("notes" in psql("\\d\n\\d notes\n\\dn\n\\du\n\\conninfo\n\\df pg_catalog.abs\n"), True)
    psql("select 'select ' || i from generate_series(1, 5) i\n\\gexec\nselect 1 \\gdesc\n\\c -\nselect 1;")
    step("LISTEN and NOTIFY")
    equal('payload "hello"' in psql("listen news; notify news, 'hello'; select 1;"), True)
    step("cancel")
    with open_psql() as process:
        process.stdin.write("\\echo ready\nselect pg_sleep(60);\n")
        process.stdin.flush()
        equal(process.stdout.readline(), "ready\n")
        while psql("select count(*) from pg_stat_activity where query like 'select pg_sleep(60)%' and state = 'active'"
                   " and datname = current_database() and pid <> pg_backend_pid()") != "1\n":
            pass
        process.send_signal(signal.SIGINT)
        equal("canceling statement due to user request" in process.communicate(timeout=20)[1], True)
    step("many connections")
    in_threads(CONNECTIONS, lambda number: equal(psql(f"select {number};"), f"{number}\n"))
    step("hold")
    psql(f"{COUNTERS}; {FILL_COUNTERS};")
    told = hold_threads(psql_write)
    equal(psql(TOLD), f"{told}\n")


@contextlib.contextmanager
def open_psql():
    process = subprocess.Popen([BIN / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1"], text=True, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def psql_write(number):
    with open_psql() as process:
        while True:
            process.stdin.write(f"begin;\nselect from counters where id = {number} for update;\n"
                                f"{COUNT}{number};\ncommit;\n\\echo told\n")
            process.stdin.flush()
            line = process.stdout.readline()
            while line == "\n":
                line = process.stdout.readline()
            equal(line, "told\n")
            yield
            time.sleep(0.002)


PIPELINE = """\
\\set aid random(1, 100000)
\\startpipeline
begin;
update pgbench_accounts set abalance = abalance + 1 where aid = :aid;
select abalance from pgbench_accounts where aid = :aid;
insert into pgbench_history (tid, bid, aid, delta, mtime) values (1, 1, :aid, 1, current_timestamp);
commit;
\\endpipeline
"""


def do_pgbench():
    version("pgbench")
    step("initialize")
    run("pgbench", "-i", "-q", "-s", "1")
    step("simple, extended, prepared, pipeline, connect per transaction, hold")
    modes = {mode: ["-M", mode] for mode in ("simple", "extended", "prepared")}
    modes["a connection for each transaction"] = ["-C", "-M", "simple"]
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(PIPELINE)
        script.flush()
        for mode in ("extended", "prepared"):
            modes[f"pipeline, {mode}"] = ["-M", mode, "-f", script.name]
        names = list(modes)
        told = [0]

        def one(number):
            if number == len(names):
                return opened()
            said = run("pgbench", "-n", "-c", "2", "-j", "1", "-T", "4", *modes[names[number]])
            equal("number of failed transactions: 0 (" in said, True)
            told[0] += int(said.split("number of transactions actually processed: ")[1].split()[0])
            return None

        in_threads(len(names) + 1, one)
    equal(psql("select count(*) from pgbench_history"), f"{told[0]}\n")


def fill():
    """Something to dump: rows, large values, a large object, a sequence, a view, a function."""
    psql("create table notes (id serial primary key, body text);"
         f"insert into notes (body) select 'row ' || i from generate_series(1, {ROWS}) i;"
         "create table large (id int, body bytea);"
         f"insert into large select i, convert_to(repeat(md5(i::text), {LARGE // 32}), 'UTF8') from generate_series(1, 3) i;"
         "create view few as select * from notes where id < 10;"
         "create function plus(int) returns int language sql as 'select $1 + 1';"
         "select lo_from_bytea(0, convert_to(repeat('lo', 300000), 'UTF8'));")


def do_pg_dump():
    version("pg_dump")
    fill()
    digest = ("select md5(string_agg(id || body, ',' order by id)) from notes; select sum(length(body)) from large;"
              "select plus(count(*)::int) from few; select length(lo_get(oid)) from pg_largeobject_metadata;")
    wanted = psql(digest)
    restored = f"{DATABASE}_2"
    with tempfile.TemporaryDirectory() as directory:
        for name, more in (("plain", ["-Fp"]), ("custom", ["-Fc"]), ("directory, two jobs", ["-Fd", "-j2"])):
            step(f"dump and restore, {name}")
            file = f"{directory}/{name}"
            run("pg_dump", *more, "-f", file)
            run("createdb", restored)
            try:
                if name == "plain":
                    psql(f"\\i '{file}'", "-d", restored)
                else:
                    run("pg_restore", "-e", "-d", restored, *more[1:], file)
                equal(psql(digest, "-d", restored), wanted)
            finally:
                run("dropdb", "--force", restored)
        step("hold")
        during_hold(lambda: run("pg_dump", "-Fc", "-f", f"{directory}/held"))


def do_pg_basebackup():
    version("pg_basebackup")
    fill()
    with tempfile.TemporaryDirectory() as directory:
        numbers = iter(range(1000))

        def backup(*more):
            run("pg_basebackup", "-c", "fast", "-D", f"{directory}/{next(numbers)}", *more)

        step("WAL streamed beside it")
        backup("-X", "stream")
        run("pg_verifybackup", f"{directory}/0")
        step("tar, gzip, WAL fetched")
        backup("-Ft", "-z", "-X", "fetch")
        step("rate, no slot")
        backup("-r", "100M", "--no-slot")
        step("through a hold")
        during_hold(lambda: backup("-X", "stream"))


@contextlib.contextmanager
def streaming(program, *arguments):
    process = subprocess.Popen([BIN / program, *arguments], text=True, stderr=subprocess.PIPE)
    try:
        yield process
        equal(process.poll(), None)
        process.send_signal(signal.SIGINT)
        process.wait(20)
    finally:
        process.kill()
        process.wait()


def until(what, holds):
    deadline = time.monotonic() + 30
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come")
        time.sleep(0.05)


def do_pg_receivewal():
    version("pg_receivewal")
    slot = f"wal_{DATABASE}"
    psql("create table notes (id int)")
    with tempfile.TemporaryDirectory() as directory:
        step("slot")
        run("pg_receivewal", "--create-slot", "--slot", slot)
        try:
            step("stream")
            with streaming("pg_receivewal", "-D", directory, "--slot", slot, "--synchronous", "--no-loop"):
                def switch():
                    segment = psql("insert into notes values (1); select pg_walfile_name(pg_switch_wal());").strip()
                    until(segment, lambda: (Path(directory) / segment).exists())

                until("the stream", lambda: psql("select active from pg_replication_slots"
                                                 f" where slot_name = '{slot}'") == "t\n")
                switch()
                step("through a hold")
                during_hold(switch)
        finally:
            step("drop slot")
            until("the end", lambda: psql("select active from pg_replication_slots"
                                          f" where slot_name = '{slot}'") == "f\n")
            run("pg_receivewal", "--drop-slot", "--slot", slot)


def do_pg_recvlogical():
    version("pg_recvlogical")
    slot = f"logical_{DATABASE}"
    psql("create table notes (id int primary key, body text); create publication everything for all tables;")
    step("slot")
    run("pg_recvlogical", "-d", DATABASE, "--create-slot", "--slot", slot, "-P", "pgoutput")
    numbers = iter(range(1_000_000))
    try:
        with tempfile.NamedTemporaryFile() as out:
            step("stream")
            with streaming("pg_recvlogical", "-d", DATABASE, "--slot", slot, "--start", "-f", out.name, "--no-loop",
                           "-F", "0", "-o", "proto_version=1", "-o", "publication_names=everything"):
                def write():
                    body = f"streamed {next(numbers)}!"
                    psql(f"insert into notes select coalesce(max(id), 0) + 1, '{body}' from notes;")
                    until(body, lambda: body.encode() in Path(out.name).read_bytes())

                write()
                step("large values")
                psql(f"insert into notes values (-1, '{'y' * LARGE}')")
                until("the large value", lambda: b"y" * LARGE in Path(out.name).read_bytes())
                step("through a hold")
                during_hold(write)
    finally:
        step("drop slot")
        until("the end", lambda: psql("select active from pg_replication_slots"
                                      f" where slot_name = '{slot}'") == "f\n")
        run("pg_recvlogical", "-d", DATABASE, "--drop-slot", "--slot", slot)


globals()[f"do_{sys.argv[1]}"]()
say("ok")
