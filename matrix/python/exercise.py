"""What the Python programs share: where to connect, and how to tell the runner how far they are.

A program prints lines: `version X`, `step X` when a step begins, `skip X: why` for what its driver
does not have, `hold` when its traffic runs and the runner may hold it, and `ok` at the end. After
the runner has opened again it writes `opened`. Whatever else happens is an exception: it is printed,
and the step that was begun last has failed.
"""

import os
import sys
import threading

HOST = os.environ["PGHOST"]
PORT = int(os.environ["PGPORT"])
USER = os.environ["PGUSER"]
DATABASE = os.environ["PGDATABASE"]
PASSWORD = os.environ.get("PGPASSWORD")
# The test CA, when the connection is to be encrypted and the certificate checked in full.
ROOT = os.environ.get("PGSSLROOTCERT")
DIRECT = os.environ.get("PGSSLNEGOTIATION") == "direct"

# More than any socket buffer takes, in both directions.
LARGE = 5 * 1024 * 1024
ROWS = 20_000
CONNECTIONS = 20
WRITERS = 4
WORDS = ["", "plain", "Ünïcödé ✓", "quote ' \" \\", "tab\tline\nend", None]


def say(text):
    print(text, flush=True)


def step(name):
    say(f"step {name}")


def skip(name, why):
    say(f"skip {name}: {why}")


def equal(seen, wanted):
    if seen != wanted:
        raise AssertionError(f"{str(seen)[:200]!r} instead of {str(wanted)[:200]!r}")


def code_of(error):
    """The SQLSTATE of a driver's exception, wherever that driver keeps it."""
    for one in (error, getattr(error, "orig", None), getattr(error, "__cause__", None)):
        code = getattr(one, "sqlstate", None) or getattr(one, "pgcode", None)
        if not code and one is not None and one.args and isinstance(one.args[0], dict):
            code = one.args[0].get("C")
        if code:
            return code
    return None


def fails(wanted, work, *args):
    """Runs what has to fail with that SQLSTATE."""
    try:
        work(*args)
    except Exception as error:  # Each driver has exceptions of its own.
        if code_of(error) != wanted:
            raise
    else:
        raise AssertionError(f"no error instead of {wanted}")


async def fails_async(wanted, work):
    """The same for a coroutine."""
    try:
        await work
    except Exception as error:
        if code_of(error) != wanted:
            raise
    else:
        raise AssertionError(f"no error instead of {wanted}")


def opened():
    """Asks the runner for a hold, and returns when it has opened again."""
    say("hold")
    equal(sys.stdin.readline(), "opened\n")


def in_threads(count, work):
    """Runs `work(number)` in threads at once, and raises the first error of any."""
    errors = []

    def run(number):
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def hold_threads(write):
    """Holds under traffic: `write(number)` yields after each committed transaction that adds one
    to the row of its number in `counters`. Returns how many there were."""
    done = threading.Event()
    told = []

    def work(number):
        own, after = 0, 0
        for _ in write(number):
            own += 1
            # Two more after the opening: the first may have waited in the hold.
            after += done.is_set()
            if after == 2:
                break
        told.append(own)

    def control(number):
        if number < WRITERS:
            return work(number)
        try:
            return opened()
        finally:
            done.set()

    in_threads(WRITERS + 1, control)
    equal(len(told), WRITERS)
    return sum(told)


COUNTERS = "create table counters (id int primary key, n int not null)"
FILL_COUNTERS = f"insert into counters select i, 0 from generate_series(0, {WRITERS - 1}) i"
COUNT = "update counters set n = n + 1 where id = "
TOLD = "select sum(n)::int from counters"
