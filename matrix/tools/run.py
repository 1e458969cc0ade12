#!/usr/bin/env python3
"""Runs each migration tool under `pgdrain window exec` while pgbench writes to the same database.

Each tool gets a database of its own, once with the key in `options` and once in `application_name`. It has
failed unless the tool ends with 0, its migrations are applied, every one of its connections went through the
window, and no transaction of pgbench failed. Arguments choose tools by parts of their names.
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
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from runner import certificates, places, proxy, server  # noqa: E402

TOOLS = places.TARGET / "tools"
VENV = TOOLS / "venv" / "bin"
USER = "trusted"
CLIENTS = 8
WAYS = ("options", "application-name")


@dataclass
class Tool:
    name: str
    # What a shell runs, in the tool's directory.
    command: str
    # What stands in the names of the table, the column and the index that it makes.
    makes: str
    flags: list = field(default_factory=list)
    ways: tuple = WAYS


ALL = [
    Tool("psql -f", f"{places.TOOLS}/psql -X -q -f change.sql", "psql"),
    Tool("alembic", f"{VENV}/alembic upgrade head", "alembic", ["--url", f"postgresql+psycopg://{USER}@db/x"]),
    Tool("alembic, psycopg2", f"{VENV}/alembic upgrade head", "alembic", ["--url", f"postgresql+psycopg2://{USER}@db/x"]),
    Tool("django", f"{VENV}/python manage.py migrate --no-input -v 0 && {VENV}/python manage.py migrate --check", "django"),
    Tool("node-pg-migrate", f"{TOOLS}/node/node_modules/.bin/node-pg-migrate up -m . --no-lock --verbose false", "node"),
    Tool("node-pg-migrate, locking", f"{TOOLS}/node/node_modules/.bin/node-pg-migrate up -m . --verbose false", "node"),
    Tool("rails", "bin/rails db:migrate && bin/rails db:abort_if_pending_migrations", "rails"),
    Tool("rails, DATABASE_URL", "bin/rails db:migrate", "rails", ["--url", f"postgresql://{USER}@db/x"]),
    # pgjdbc sends its application_name by a SET of its own behind the login, which waits with all others.
    Tool("jdbc", f"sh migrate.sh {USER}", "jdbc", ways=("options",)),
    Tool("sqlx", f"{TOOLS}/sqlx/bin/sqlx migrate run --source . && {TOOLS}/sqlx/bin/sqlx migrate info --source .", "sqlx"),
]


class Load:
    """pgbench through pgdrain, again and again, until it is stopped: it also comes anew while traffic is held."""

    def __init__(self, port, database):
        self.port, self.database = port, database
        self.transactions, self.errors, self.stopping = 0, [], False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.stopping and not self.errors:
            ran = subprocess.run(
                [places.TOOLS / "pgbench", "-n", "-N", "-c", str(CLIENTS), "-j", "2", "-T", "1", "-h", "127.0.0.1",
                 "-p", str(self.port), "-U", USER, self.database],
                capture_output=True, text=True, env=places.environment(PGSSLMODE="disable"))
            done = re.search(r"actually processed: (\d+)", ran.stdout)
            failed = re.search(r"failed transactions: (\d+)", ran.stdout)
            if ran.returncode != 0 or not done or (failed and failed[1] != "0"):
                self.errors.append((ran.stdout + ran.stderr)[-800:])
            else:
                self.transactions += int(done[1])

    def goes_on(self):
        """Waits until a run of it has ended that began just now."""
        before, deadline = self.transactions, time.monotonic() + 60
        while self.transactions == before and not self.errors and time.monotonic() < deadline:
            time.sleep(0.05)

    def stop(self):
        self.stopping = True
        self.thread.join()
        return self.errors


def last_window(admin, database):
    with urllib.request.urlopen(f"{admin}/v1/databases/{database}/windows", timeout=20) as answer:
        return json.load(answer)["windows"][-1]


def check(postgres, database, name):
    """What is missing of the tool's work."""
    wanted = {
        "table": f"select to_regclass('{name}_items') is not null",
        "column": f"select count(*) = count({name}_note) and count(*) > 0 from pgbench_accounts",
        "no setting of ours": "select count(*) = 0 from pg_stat_activity where application_name like '%pgdrain.window%'",
    }
    if name != "django":
        wanted["index"] = f"select indisvalid from pg_index where indexrelid = '{name}_items_name'::regclass"
    return [what for what, sql in wanted.items() if postgres.sql(sql, database) != "t"]


def run(tool, way, number, postgres, pgdrain, base):
    """One tool, one way; gives what went wrong, and figures."""
    database = f"bench_{number}"
    postgres.sql(f"create database {database}")
    initialised = subprocess.run([places.TOOLS / "pgbench", "-i", "-q", "-h", postgres.directory, "-p",
                                  str(postgres.port), "-U", "postgres", database],
                                 capture_output=True, text=True, env=places.environment())
    if initialised.returncode != 0:
        return initialised.stderr, {}
    load = Load(pgdrain.port, database)
    directory = HERE / tool.makes if (HERE / tool.makes).exists() else HERE / "node-pg-migrate"
    begun = time.monotonic()
    try:
        load.goes_on()
        begun = time.monotonic()
        ran = subprocess.run(
            [places.PGDRAIN, "window", "exec", database, "--admin", pgdrain.admin, "--by", way, "--reason", tool.name,
             "--user", USER, *tool.flags, "--", "sh", "-c", tool.command],
            cwd=directory, capture_output=True, text=True, timeout=120,
            env=places.environment(PGSSLMODE="disable", PYTHONDONTWRITEBYTECODE="1", SCHEMA_DIRECTORY=str(base)))
        took = time.monotonic() - begun
        load.goes_on()
    finally:
        errors = load.stop()
    wrong = errors + [f"{what} is missing" for what in check(postgres, database, tool.makes)]
    if ran.returncode != 0:
        wrong.append(f"exit code {ran.returncode}: {(ran.stdout + ran.stderr)[-1500:]}")
    window = last_window(pgdrain.admin, database)
    return "; ".join(wrong), {"connections": window["connections_used"], "seconds": f"{took:.1f}",
                              "transactions": load.transactions, "end": window["why"]}


def main():
    words = [word.lower() for word in sys.argv[1:]]
    tools = [tool for tool in ALL if not words or any(word in tool.name for word in words)]
    failed = 0
    with tempfile.TemporaryDirectory(prefix="pgdrain-tools-", dir=places.temporary()) as base:
        os.chmod(base, 0o755)
        base = Path(base)
        certificates.make(base / "certificates", places.account())
        postgres = server.Server(15, places.TOOLS, base / "postgres", base / "certificates")
        try:
            plain = proxy.transports()[0]
            pgdrain = proxy.Proxy(plain, postgres, base / "pgdrain", base / "certificates")
            try:
                cells = [(tool, way) for tool in tools for way in tool.ways]
                for number, (tool, way) in enumerate(cells):
                    wrong, figures = run(tool, way, number, postgres, pgdrain, base)
                    failed += bool(wrong)
                    print(f"{'FAILED' if wrong else 'ok':6} {tool.name:25} {way:17} {figures} {wrong}", flush=True)
            finally:
                pgdrain.stop()
        finally:
            postgres.stop()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
