"""What is done to each target: a fixed amount of work, so that the CPU of it can be compared."""

import asyncio
import os
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from . import machine, places, raw
from .servers import DATABASE, USER

PIPELINE = "\\startpipeline\n" + "select 1;\n" * 20 + "\\endpipeline\n"
GIB = 2**30

# Who is measured at all; where a goal is about threads, those with two beside them.
MAIN = {"pgdrain-1", "pgdrain-1-again", "pgbouncer-session", "pgbouncer-tx", "haproxy", "pump-1"}
TWO = {"pgdrain-2", "pump-2"}
# HAProxy and the pump pass TLS on to the server, or nowhere: only these end it.
TLS = {"pgdrain-1", "pgdrain-1-again", "pgbouncer-session", "pgbouncer-tx"}


@dataclass(frozen=True)
class Workload:
    """`unit` is what the CPU is counted for, `targets` are the names of who does it. An allocator seldom gives
    back, so that `fresh` processes alone tell what a connection takes: it is given one each time."""

    name: str
    unit: str
    run: Callable
    targets: frozenset
    fresh: bool = False


@dataclass(frozen=True)
class Sizes:
    """How much is done in one go; of how many sessions for how many seconds the upkeep is watched; how often
    clients are held; and in how many rounds memory is looked at."""

    scale: int
    transactions: int
    writes: int
    connections: int
    mebibytes: int
    idle: int
    kept_up: int
    watched: int
    holds: int
    idle_rounds: int


FULL = Sizes(scale=20, transactions=24_000, writes=4_000, connections=1_600, mebibytes=256, idle=400, kept_up=10_000,
             watched=20, holds=6, idle_rounds=2)
QUICK = Sizes(scale=2, transactions=8_000, writes=800, connections=400, mebibytes=60, idle=100, kept_up=1_000,
              watched=4, holds=2, idle_rounds=1)


class Failed(Exception):
    """The work was not done in whole."""


def pgbench(target, arguments, clients, total, tls=False, latencies=True):
    """Runs `total` transactions; gives rate and latencies."""
    each = max(1, total // clients)
    with tempfile.TemporaryDirectory(prefix="loadtest.") as directory:
        command = ["setpriv", "--pdeathsig", "TERM", places.TOOLS / "pgbench", "-n", "-h", "127.0.0.1",
                   "-p", str(target.port), "-U", USER, "-c", str(clients), "-j", str(min(clients, 2)), "-t", str(each), *arguments]
        if latencies:
            command += ["-l", f"--log-prefix={directory}/l"]
        ran = subprocess.run([*map(str, command), DATABASE], capture_output=True, text=True, timeout=120, cwd=directory,
                             env=places.environment(PGSSLMODE="require" if tls else "disable", PGGSSENCMODE="disable"))
        done = re.search(r"actually processed: (\d+)", ran.stdout)
        rate = re.search(r"tps = ([\d.]+)", ran.stdout)
        if ran.returncode != 0 or not rate or int(done.group(1)) != each * clients:
            raise Failed((ran.stdout + ran.stderr)[-400:])
        result = {"units": each * clients, "per_second": float(rate.group(1))}
        times = sorted(int(line.split()[2]) for file in Path(directory).glob("l.*") for line in file.open())
        if times:
            result |= {f"{name}_ms": times[min(len(times) - 1, int(len(times) * share))] / 1000
                       for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))}
        return result


def bulk(sql, tls=False):
    def run(target):
        session = raw.Blocking(target.port, USER, DATABASE, tls)
        began = time.monotonic()
        total = session.run(sql)
        took = time.monotonic() - began
        session.close()
        return {"units": total / GIB, "per_second": total / GIB / took}
    return run


def copy_in(mebibytes):
    def run(target):
        session = raw.Blocking(target.port, USER, DATABASE)
        began = time.monotonic()
        rows = (b"y" * 999 + b"\n") * 16
        total = session.copy_in("copy loadtest_in from stdin", rows, mebibytes * 1_048_576 // len(rows))
        took = time.monotonic() - began
        session.run("truncate loadtest_in")
        session.close()
        return {"units": total / GIB, "per_second": total / GIB / took}
    return run


def idle(count, tls=False):
    """Memory for each connection that sits there: after its login, and when it was used once and has a server
    connection of its own (in session pooling)."""
    async def run(target):
        # One first: what a proxy sets up once does not count for each.
        sessions = [await raw.Session.open(target.port, USER, DATABASE, tls)]
        await sessions[0].run("select 1")
        await asyncio.sleep(0.2)
        before, turn = machine.resident(target.pid), asyncio.Semaphore(16)

        async def login():
            async with turn:
                return await raw.Session.open(target.port, USER, DATABASE, tls)

        async def use(session):
            async with turn:
                await session.run("select 1")
        sessions += await asyncio.gather(*(login() for _ in range(count)))
        await asyncio.sleep(0.5)
        logged_in = machine.resident(target.pid)
        await asyncio.gather(*map(use, sessions))
        await asyncio.sleep(0.5)
        used = machine.resident(target.pid)
        for session in sessions:
            session.close()
        return {"units": count, "kib": (used - before) / count, "kib_after_login": (logged_in - before) / count}
    return lambda target: asyncio.run(run(target))


def all_of(sizes):
    """Every workload, in the order of the report."""
    narrow = f"select g, repeat('x', 80) from generate_series(1, {sizes.mebibytes * 5000}) g"
    wide = f"select repeat('x', 1000000) from generate_series(1, {sizes.mebibytes})"
    out = f"copy (select repeat('x', 1000) from generate_series(1, {sizes.mebibytes * 1000})) to stdout"
    yield Workload("idle", "connection", idle(sizes.idle), frozenset(MAIN), fresh=True)
    yield Workload("idle-tls", "connection", idle(sizes.idle, tls=True), frozenset(TLS), fresh=True)
    yield from selects(sizes)
    yield Workload("tpcb-c16", "transaction", lambda target: pgbench(target, [], 16, sizes.writes), frozenset(MAIN))
    pipeline = places.RESULTS / "pipeline.sql"
    pipeline.write_text(PIPELINE)
    yield Workload("pipeline-c16", "transaction", lambda target: pgbench(
        target, ["-M", "extended", "-f", pipeline], 16, sizes.transactions // 20), frozenset(MAIN))
    connect = ["-S", "-C"]
    yield Workload("connect-c8", "connection", lambda target: pgbench(
        target, connect, 8, sizes.connections, latencies=False), frozenset(MAIN | {"direct"}))
    yield Workload("connect-c8-tls", "connection", lambda target: pgbench(
        target, connect, 8, sizes.connections // 2, tls=True, latencies=False), frozenset(TLS))
    yield Workload("copy-out", "GiB", bulk(out), frozenset(MAIN))
    yield Workload("copy-in", "GiB", copy_in(sizes.mebibytes), frozenset(MAIN))
    yield Workload("rows-100B", "GiB", bulk(narrow), frozenset(MAIN))
    yield Workload("rows-1MB", "GiB", bulk(wide), frozenset(MAIN))
    yield Workload("copy-out-tls", "GiB", bulk(out, tls=True), frozenset(TLS))


def selects(sizes):
    """One row by its key, in each of the ways to ask for it."""
    for clients in (16, 64):
        # Latencies are compared with those of a direct connection at 16 clients.
        few = {"direct", "pgdrain-read-only"} if clients == 16 else set()
        for protocol in ("simple", "extended", "prepared"):
            # What is prepared stays with its server connection: this PgBouncer loses it in transaction pooling.
            lost = {"pgbouncer-tx"} if protocol == "prepared" else set()
            yield Workload(f"select-{protocol}-c{clients}", "transaction", lambda target, c=clients, p=protocol:
                           pgbench(target, ["-S", "-M", p], c, sizes.transactions),
                           frozenset(MAIN | TWO | few) - lost)
    yield Workload("select-extended-c16-tls", "transaction", lambda target: pgbench(
        target, ["-S", "-M", "extended"], 16, sizes.transactions, tls=True), frozenset(TLS))


def measured(workload, target, server):
    """One run, with what it cost."""
    with machine.Span(target.pid, server.pid) as span:
        result = workload.run(target)
    units = result["units"]
    per = 1e6 if workload.unit != "GiB" else 1
    result |= {"wall": span.wall, "strangers": span.strangers, "server_cpu": span.server_cpu / units * per}
    if target.pid:
        result |= {"cpu": span.cpu / units * per, "switches": span.switches / units}
    return result
