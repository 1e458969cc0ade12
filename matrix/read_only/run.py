#!/usr/bin/env python3
"""Puts a mixed load through twenty read-only periods in which writes wait.

SQLAlchemy and Django with a transaction per request, psycopg in autocommit, a node-postgres pool, and
pgbench. It has failed if a read fails, if a write fails but with 40001 where it came late in a transaction,
if what was told to try again does not succeed at once, if anything is written within a period or nothing is
read in it, or if rows and sums differ from what clients were told. READ_ONLY_PERIODS changes how many.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from runner import certificates, places, proxy, server  # noqa: E402

PYTHON = places.TARGET / "tools" / "venv" / "bin" / "python"
DATABASE = "mixed"
PERIODS = int(os.environ.get("READ_ONLY_PERIODS", "20"))
CLIENTS = 4
# A read in a period is answered as in open mode; this is for a busy machine.
LONGEST_READ = 5.0
SCHEMA = """\
create table account (id int primary key, balance bigint not null default 0);
insert into account select generate_series(1, 1000);
create table ledger (client int, number int, at timestamptz default clock_timestamp(), primary key (client, number));
"""


class Application:
    """A process that works until it is told to stop."""

    def __init__(self, name, command):
        self.name = name
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, env=places.environment())

    def stop(self):
        """What it has done, and what went wrong."""
        try:
            out, err = self.process.communicate("", timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
        if self.process.returncode != 0:
            return {"counts": {}, "longest": {}, "errors": [f"ended by {self.process.returncode}: {err[-600:]}"]}
        return json.loads(out)


class Pgbench:
    """TPC-B again and again: it also comes anew while writes wait."""

    def __init__(self, port, protocol):
        self.name, self.port, self.protocol = f"pgbench {protocol}", port, protocol
        self.transactions, self.errors, self.stopping = 0, [], False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.stopping and not self.errors:
            ran = subprocess.run(
                [places.TOOLS / "pgbench", "-n", "-c", str(CLIENTS), "-T", "2", "-M", self.protocol, "-h", "127.0.0.1",
                 "-p", str(self.port), "-U", "trusted", DATABASE],
                capture_output=True, text=True, env=places.environment(PGSSLMODE="disable"))
            done = re.search(r"actually processed: (\d+)", ran.stdout)
            failed = re.search(r"failed transactions: (\d+)", ran.stdout)
            if ran.returncode != 0 or not done or (failed and failed[1] != "0"):
                self.errors.append((ran.stdout + ran.stderr)[-800:])
            else:
                self.transactions += int(done[1])

    def stop(self):
        self.stopping = True
        self.thread.join()
        return {"counts": {"pgbench": self.transactions}, "longest": {}, "errors": self.errors}


def mode(pgdrain, body, wait=""):
    """Sets the mode, and gives the answer."""
    request = urllib.request.Request(f"{pgdrain.admin}/v1/databases/{DATABASE}/mode{wait}", method="PUT",
                                     data=json.dumps(body).encode(), headers={"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def written(postgres):
    return postgres.sql("select (select count(*) from ledger) + (select count(*) from pgbench_history)", DATABASE)


def transactions(pgdrain):
    """How many transactions have ended in all."""
    with urllib.request.urlopen(f"{pgdrain.admin}/v1/status", timeout=20) as answer:
        databases = json.load(answer)["databases"]
    return next(database["transactions_total"] for database in databases if database["database"] == DATABASE)


def period(pgdrain, postgres, number):
    """Goes into read-only mode and out of it; gives how long entering took, and what went wrong."""
    begun = time.monotonic()
    mode(pgdrain, {"mode": "read_only", "writes": "queue", "for": "60s", "reason": f"period {number}"}, "?wait=drained")
    entered = time.monotonic() - begun
    before, read = written(postgres), transactions(pgdrain)
    time.sleep(1.0)
    wrong = []
    if written(postgres) != before:
        wrong.append(f"period {number}: something was written")
    if transactions(pgdrain) == read:
        wrong.append(f"period {number}: nothing was read")
    mode(pgdrain, {"mode": "open"})
    time.sleep(0.7)
    return entered, wrong


def sums(postgres, results):
    """What the rows say, against what clients were told."""
    writes = sum(result["counts"].get("write", 0) for result in results)
    benched = sum(result["counts"].get("pgbench", 0) for result in results)
    wanted = {
        "select count(*) from ledger": writes,
        "select sum(balance) from account": writes,
        "select count(*) from pgbench_history": benched,
    }
    wrong = [f"{sql}: {found} and not {value}" for sql, value in wanted.items()
             if (found := postgres.sql(sql, DATABASE)) != str(value)]
    agree = postgres.sql("select (select sum(delta) from pgbench_history) = all (array[(select sum(abalance) from "
                         "pgbench_accounts), (select sum(tbalance) from pgbench_tellers), (select sum(bbalance) from "
                         "pgbench_branches)])", DATABASE)
    return wrong + ([] if agree == "t" else ["the sums of pgbench differ"])


def load(pgdrain):
    web = [Application(kind, [PYTHON, HERE / "web.py", kind, pgdrain.port, DATABASE, CLIENTS, (number + 1) * 100])
           for number, kind in enumerate(("sqlalchemy", "django", "autocommit"))]
    node = Application("node-postgres", ["node", places.NODE / "pool.mjs", pgdrain.port, DATABASE, CLIENTS, 1000])
    return [*web, node, *(Pgbench(pgdrain.port, protocol) for protocol in ("simple", "extended", "prepared"))]


def judge(applications, results):
    """A line for each application; gives what went wrong."""
    wrong = []
    for application, result in zip(applications, results):
        counts, longest = result["counts"], result["longest"]
        wrong += [f"{application.name}: {error}" for error in result["errors"]]
        if counts.get("told to retry", 0) != counts.get("retried", 0):
            wrong.append(f"{application.name}: not every retry succeeded")
        if longest.get("read", 0) > LONGEST_READ:
            wrong.append(f"{application.name}: a read took {longest['read']:.1f} s")
        shown = {name: f"{value:.2f} s" for name, value in longest.items()}
        print(f"{'FAILED' if result['errors'] else 'ok':6} {application.name:18} {counts} longest {shown}", flush=True)
    return wrong


def run(pgdrain, postgres):
    postgres.sql(f"create database {DATABASE}")
    postgres.sql(SCHEMA, DATABASE)
    subprocess.run([places.TOOLS / "pgbench", "-i", "-q", "-s", "4", "-h", postgres.directory, "-p", str(postgres.port),
                    "-U", "postgres", DATABASE], check=True, capture_output=True, env=places.environment())
    applications, wrong, entering = load(pgdrain), [], []
    try:
        time.sleep(3)
        for number in range(PERIODS):
            entered, found = period(pgdrain, postgres, number)
            entering.append(entered)
            wrong += found
    finally:
        results = [application.stop() for application in applications]
    wrong += judge(applications, results) + sums(postgres, results)
    entering.sort()
    print(f"{len(entering)} periods, entered after {entering[len(entering) // 2] * 1000:.0f} ms (median), "
          f"{entering[-1] * 1000:.0f} ms (longest)")
    return wrong


def main():
    with tempfile.TemporaryDirectory(prefix="pgdrain-read-only-", dir=places.temporary()) as base:
        os.chmod(base, 0o755)
        base = Path(base)
        certificates.make(base / "certificates", places.account())
        postgres = server.Server(15, places.TOOLS, base / "postgres", base / "certificates")
        try:
            pgdrain = proxy.Proxy(proxy.transports()[0], postgres, base / "pgdrain", base / "certificates")
            try:
                wrong = run(pgdrain, postgres)
            finally:
                pgdrain.stop()
        finally:
            postgres.stop()
    for what in wrong:
        print(what)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
