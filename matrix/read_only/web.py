#!/usr/bin/env python3
"""An application in Python: threads that read and write all the time, until stdin ends.

Arguments: the kind of application, the port, the database, how many threads, and the number of the first
of them. Prints what it has done as JSON.
"""

import json
import random
import sys
import threading
import time
from collections import Counter

USER = "trusted"
ACCOUNTS = 1000
READ = "select count(*), sum(balance) from account where id between %s and %s"
BALANCE = "select balance from account where id = %s"
ADD = "update account set balance = balance + 1 where id = %s"
NOTE = "insert into ledger (client, number) values (%s, %s)"


def state_of(error):
    """The SQLSTATE that a driver's error, or the one that it was made from, has."""
    while error is not None:
        state = getattr(error, "sqlstate", None) or getattr(getattr(error, "orig", None), "sqlstate", None)
        if state:
            return state
        error = error.__cause__
    return None


class Autocommit:
    """psycopg without transactions; it prepares what it has sent five times."""

    def __init__(self, port, database):
        import psycopg
        self.connection = psycopg.connect(host="127.0.0.1", port=port, dbname=database, user=USER, sslmode="disable",
                                          autocommit=True)

    def read(self, account):
        self.connection.execute(READ, (account, account + 10)).fetchall()

    def write(self, client, number, account):
        self.connection.execute("with noted as (" + NOTE + ") " + ADD, (client, number, account))

    late = None


class SqlAlchemy:
    """SQLAlchemy with psycopg 3, a connection from a pool and a transaction per request."""

    engine, lock = None, threading.Lock()

    def __init__(self, port, database):
        import sqlalchemy
        with self.lock:
            if not SqlAlchemy.engine:
                url = f"postgresql+psycopg://{USER}@127.0.0.1:{port}/{database}?sslmode=disable"
                SqlAlchemy.engine = sqlalchemy.create_engine(url, pool_size=64)

    def run(self, *statements):
        with self.engine.begin() as connection:
            for sql, values in statements:
                connection.exec_driver_sql(sql, values)

    def read(self, account):
        self.run((READ, (account, account + 10)), (BALANCE, (account,)))

    def write(self, client, number, account):
        self.run((NOTE, (client, number)), (ADD, (account,)))

    def late(self, client, number, account):
        self.run((BALANCE, (account,)), (NOTE, (client, number)), (ADD, (account,)))


class Django:
    """Django's connections, which stay from request to request, and `atomic` around each."""

    lock = threading.Lock()

    def __init__(self, port, database):
        import django
        from django.conf import settings
        with self.lock:
            if not settings.configured:
                settings.configure(DATABASES={"default": {
                    "ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": port, "NAME": database,
                    "USER": USER, "OPTIONS": {"sslmode": "disable"}, "CONN_MAX_AGE": None}})
                django.setup()

    def run(self, *statements):
        from django.db import connection, transaction
        with transaction.atomic(), connection.cursor() as cursor:
            for sql, values in statements:
                cursor.execute(sql, values)

    read, write, late = SqlAlchemy.read, SqlAlchemy.write, SqlAlchemy.late


KINDS = {"autocommit": Autocommit, "sqlalchemy": SqlAlchemy, "django": Django}


class Worker(threading.Thread):
    """One thread. Every other one only reads, so that somebody does while writes wait; with the others six of ten
    requests read, and half of those that write do so after a read."""

    def __init__(self, kind, port, database, client, stop):
        super().__init__()
        self.application = kind(port, database)
        self.client, self.stop = client, stop
        self.counts, self.errors, self.number = Counter(), [], 0
        self.longest = {"read": 0.0, "write": 0.0}

    def run(self):
        while not self.stop.is_set() and len(self.errors) < 5:
            account = random.randint(1, ACCOUNTS)
            chance = random.random()
            if chance < 0.6 or self.client % 2:
                self.timed("read", self.application.read, account)
            else:
                self.number += 1
                late = self.application.late if chance > 0.8 else None
                self.write(late or self.application.write, late is not None, account)

    def timed(self, what, request, *values):
        begun = time.monotonic()
        try:
            request(*values)
            self.counts[what] += 1
            return True
        except Exception as error:
            self.failed(what, error)
            return False
        finally:
            self.longest[what] = max(self.longest[what], time.monotonic() - begun)

    def failed(self, what, error):
        self.errors.append(f"{what} of client {self.client}: {state_of(error)} {error}"[:400])

    def write(self, request, late, account):
        """What wrote late in a transaction may be told 40001 once: tried again at once it succeeds."""
        try:
            begun = time.monotonic()
            request(self.client, self.number, account)
            self.counts["write"] += 1
            self.longest["write"] = max(self.longest["write"], time.monotonic() - begun)
        except Exception as error:
            if not late or state_of(error) != "40001":
                return self.failed("late write" if late else "write", error)
            self.counts["told to retry"] += 1
            if self.timed("write", request, self.client, self.number, account):
                self.counts["retried"] += 1


def main():
    kind, port, database, threads, first = sys.argv[1:]
    stop = threading.Event()
    workers = [Worker(KINDS[kind], int(port), database, int(first) + number, stop) for number in range(int(threads))]
    for worker in workers:
        worker.start()
    sys.stdin.read()
    stop.set()
    counts, errors, longest = Counter(), [], Counter()
    for worker in workers:
        worker.join()
        counts += worker.counts
        errors += worker.errors
        longest |= Counter(worker.longest)
    print(json.dumps({"counts": counts, "errors": errors, "longest": longest}))


if __name__ == "__main__":
    main()
