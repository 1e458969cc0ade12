"""A backfill under load: how much longer clients wait meanwhile, and whether each row is mapped once when it is
stopped in the middle and goes on.

usage: backfill.py [--rows N] [--clients N] [--rate N] [--calm SECONDS] [--batch OPTIONS]

pgbench updates and reads at a rate that leaves room on the machine, through pgdrain; its log has every
transaction. Ends with 1 if a client saw an error, or a row is not mapped exactly once.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import places
from bench.servers import DATABASE, USER, Proxies, Server

TABLE = """
create table legacy (id bigint primary key, old text not null, new bigint, times int not null default 0);
insert into legacy (id, old) select i, i::text from generate_series(1, {rows}) i;
"""

BACKFILL = """\
-- pgdrain:batch table=legacy {batch} done="new is null"
update legacy set new = old::bigint, times = times + 1 where :batch;
"""

# Longer than a backfill takes; it is told when its time is over.
LONG = 7200


class Load:
    """pgbench at work, and what each of its transactions took."""

    def __init__(self, directory, port, clients, rate):
        self.directory, self.log = directory, directory / "pgbench.out"
        command = [places.TOOLS / "pgbench", "-n", "-N", "-l", "-c", clients, "-j", 2, "-R", rate, "-T", LONG,
                   "-h", "127.0.0.1", "-p", port, "-U", USER, DATABASE]
        with open(self.log, "wb") as to:
            self.process = places.start(command, to, cwd=directory)

    def end(self):
        """Its words, once its time is over."""
        self.process.send_signal(signal.SIGALRM)
        self.process.wait(60)
        return self.log.read_text(errors="replace")

    def waits(self):
        """Each transaction: when it ended, and for how many milliseconds its client waited."""
        for file in self.directory.glob("pgbench_log.*"):
            for line in file.read_text().splitlines():
                part = line.split()
                # Behind schedule it began late; what it took is without that.
                yield int(part[4]) + int(part[5]) / 1e6, (int(part[2]) - int(part[6])) / 1000


def told(waits):
    """How long clients waited, in milliseconds."""
    waits = sorted(waits)
    at = lambda share: round(waits[min(len(waits) - 1, int(len(waits) * share))], 2)  # noqa: E731
    return {"transactions": len(waits), "p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "longest": round(waits[-1], 1)}


def migrate(proxy, directory, verb, *more, wait=True):
    command = [places.PGDRAIN, "migrate", verb, DATABASE, "--admin", proxy.admin, *more]
    if verb == "up":
        command += ["--dir", directory / "files"]
    run = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return (run.wait(3600), run.stdout.read()) if wait else run


def until_half(server, rows, run):
    """The row in the middle is done."""
    while server.sql(f"select times from legacy where id = {rows // 2}") == "0":
        if run.poll() is not None:
            raise SystemExit(f"backfill: it ended early: {run.stdout.read()}")
        time.sleep(0.5)


def measure(options, directory, server, proxy):
    server.sql(TABLE.format(rows=options.rows))
    server.sql("vacuum analyze legacy; checkpoint")
    (directory / "files").mkdir()
    (directory / "files" / "001_backfill.up.sql").write_text(BACKFILL.format(batch=options.batch))
    (directory / "files" / "001_backfill.down.sql").write_text("update legacy set new = null;\n")
    load = Load(directory, proxy.port, options.clients, options.rate)
    # Its first seconds fill caches.
    time.sleep(5)
    moments = [time.time()]
    time.sleep(options.calm)
    moments.append(time.time())
    first = migrate(proxy, directory, "up", wait=False)
    until_half(server, options.rows, first)
    cancelled = migrate(proxy, directory, "cancel")
    first.wait(300)
    stopped = server.sql("select count(*) filter (where times > 0) from legacy")
    again = time.time()
    code, words = migrate(proxy, directory, "up")
    moments.append(time.time())
    said = load.end()
    waits = list(load.waits())
    mapped = server.sql("select count(*) filter (where new = id and times = 1) || ' of ' || count(*) || ', most ' || max(times) from legacy")
    between = lambda begin, end: [wait for at, wait in waits if begin <= at < end]  # noqa: E731
    return {
        "rows": options.rows, "batch": options.batch, "clients": options.clients, "rate": options.rate,
        "calm": told(between(moments[0], moments[1])), "backfill": told(between(moments[1], moments[2])),
        "seconds": round(moments[2] - moments[1], 1), "cancel": cancelled[0], "first": first.returncode,
        "done_when_stopped": int(stopped), "second": code, "mapped_once": mapped,
        "seconds_after_stop": round(moments[2] - again, 1),
        "failed": "number of failed transactions: 0 " not in said, "words": words[-400:] if code else "",
    }


def main():
    parser = argparse.ArgumentParser(description="A backfill under load")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rate", type=int, default=200, help="transactions a second, all clients together")
    parser.add_argument("--calm", type=int, default=30, help="seconds before the backfill")
    parser.add_argument("--batch", default="size=5000 pause=50ms", help="options of its -- pgdrain:batch")
    options = parser.parse_args()
    if "PGDRAIN" not in os.environ:
        subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], check=True, cwd=places.REPOSITORY)
    with tempfile.TemporaryDirectory(prefix="backfill.", dir="/var/tmp") as directory:
        directory = Path(directory)
        directory.chmod(0o755)
        server = Server(directory / "postgres", 10, 100)
        try:
            proxy = Proxies(directory, server).pgdrain(
                "pgdrain", 1, prefix=["env", "PGDRAIN_ADMIN_LOCAL=look,hold,open,migrate"])
            try:
                found = measure(options, directory, server, proxy)
            finally:
                proxy.stop()
        finally:
            server.stop()
    found["p99_ratio"] = round(found["backfill"]["p99"] / found["calm"]["p99"], 2)
    print(json.dumps(found, indent=1))
    whole = f"{options.rows} of {options.rows}, most 1"
    sys.exit(found["failed"] or found["second"] != 0 or found["mapped_once"] != whole)


if __name__ == "__main__":
    main()
