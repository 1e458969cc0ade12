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


@dataclass(frozen=True)
class Workload:
    """`unit` is what the CPU is counted for. `fits` says which targets can do it."""

    name: str
    unit: str
    run: Callable
    fits: Callable = lambda target: True


@dataclass(frozen=True)
class Sizes:
    """How much is done in one go."""

    transactions: int
    writes: int
    connections: int
    mebibytes: int
    idle: int


FULL = Sizes(transactions=60_000, writes=6_000, connections=2_400, mebibytes=400, idle=400)
QUICK = Sizes(transactions=8_000, writes=800, connections=400, mebibytes=60, idle=100)


class Failed(Exception):
    """The work was not done in whole."""


def pgbench(target, arguments, clients, total, tls=False, latencies=True):
    """Runs `total` transactions; gives rate and latencies."""
    each = max(1, total // clients)
    with tempfile.TemporaryDirectory(prefix="loadtest.") as directory:
        command = [places.POSTGRES / "pgbench", "-n", "-h", "127.0.0.1", "-p", str(target.port), "-U", USER,
                   "-c", str(clients), "-j", str(min(clients, 2)), "-t", str(each), *arguments]
        if latencies:
            command += ["-l", f"--log-prefix={directory}/l"]
        ran = subprocess.run([*map(str, command), DATABASE], capture_output=True, text=True, timeout=600, cwd=directory,
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
    """Memory for each connection that was used once and sits there, with a server connection of its own."""
    async def run(target):
        # One first: what a proxy sets up once does not count for each.
        sessions = [await raw.Session.open(target.port, USER, DATABASE, tls)]
        await sessions[0].run("select 1")
        await asyncio.sleep(0.3)
        before, turn = machine.resident(target.pid), asyncio.Semaphore(16)

        async def one():
            async with turn:
                session = await raw.Session.open(target.port, USER, DATABASE, tls)
                await session.run("select 1")
                return session
        sessions += await asyncio.gather(*(one() for _ in range(count)))
        await asyncio.sleep(1)
        after = machine.resident(target.pid)
        for session in sessions:
            session.close()
        await asyncio.sleep(0.5)
        return {"units": count, "kib": (after - before) / count}
    return lambda target: asyncio.run(run(target))


def all_of(sizes):
    """Every workload, in the order of the report."""
    proxied = lambda target: target.pid is not None
    encrypts = lambda target: target.tls
    narrow = f"select g, repeat('x', 80) from generate_series(1, {sizes.mebibytes * 5000}) g"
    wide = f"select repeat('x', 1000000) from generate_series(1, {sizes.mebibytes})"
    out = f"copy (select repeat('x', 1000) from generate_series(1, {sizes.mebibytes * 1000})) to stdout"
    # Held connections of an earlier workload would count here: memory comes first.
    yield Workload("idle", "connection", idle(sizes.idle), proxied)
    yield Workload("idle-tls", "connection", idle(sizes.idle, tls=True), lambda target: target.pid and target.tls)
    for clients in (16, 64):
        for protocol in ("simple", "extended", "prepared"):
            yield Workload(f"select-{protocol}-c{clients}", "transaction", lambda target, c=clients, p=protocol:
                           pgbench(target, ["-S", "-M", p], c, sizes.transactions),
                           lambda target, p=protocol: not target.name.endswith("-tx") or p != "prepared")
    writes = lambda target: not target.reads_only
    yield Workload("tpcb-c16", "transaction", lambda target: pgbench(target, [], 16, sizes.writes), writes)
    pipeline = places.RESULTS / "pipeline.sql"
    pipeline.write_text(PIPELINE)
    yield Workload("pipeline-c16", "transaction", lambda target: pgbench(
        target, ["-M", "extended", "-f", pipeline], 16, sizes.transactions // 20))
    yield Workload("connect-c8", "connection", lambda target: pgbench(
        target, ["-S", "-C"], 8, sizes.connections, latencies=False))
    yield Workload("copy-out", "GiB", bulk(out))
    yield Workload("copy-in", "GiB", copy_in(sizes.mebibytes), writes)
    yield Workload("rows-100B", "GiB", bulk(narrow))
    yield Workload("rows-1MB", "GiB", bulk(wide))
    yield Workload("select-extended-c16-tls", "transaction", lambda target: pgbench(
        target, ["-S", "-M", "extended"], 16, sizes.transactions, tls=True), encrypts)
    yield Workload("copy-out-tls", "GiB", bulk(out, tls=True), encrypts)


def measured(workload, target, server):
    """One run, with what it cost."""
    with machine.Span(target.pid, server.pid) as span:
        result = workload.run(target)
    units = result["units"]
    per = 1e6 if workload.unit != "GiB" else 1
    result |= {"workload": workload.name, "unit": workload.unit, "target": target.name,
               "strangers": span.strangers, "server_cpu": span.server_cpu / units * per}
    if target.pid:
        result |= {"cpu": span.cpu / units * per, "switches": span.switches / units}
    return result
