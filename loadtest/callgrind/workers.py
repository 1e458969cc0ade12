"""The instructions of a transaction through the whole of pgdrain, its runtime and its system calls' user side
among them, with one and with two worker threads. Under valgrind one thread runs at a time, so that what two
cost each other in caches does not show."""

import re
import tempfile
from pathlib import Path

from bench import places, servers, workloads

CLIENTS = 8
# What a longer run takes more than a short one is what its transactions take.
SHORT, LONG = 800, 4000
# What timers do meanwhile only adds to it: the least of so many runs counts.
RUNS = 2


def one(proxies, threads, transactions):
    """Of a whole run of pgdrain."""
    target = proxies.pgdrain(f"callgrind-{threads}", threads, prefix=[
        places.program("valgrind"), "--tool=callgrind", "--callgrind-out-file=/dev/null"])
    try:
        workloads.pgbench(target, ["-S", "-M", "extended"], CLIENTS, transactions, latencies=False)
    finally:
        target.stop()
    return int(re.search(r"Collected : (\d+)", (target.directory / "log").read_text())[1])


def count():
    """By the number of worker threads, and two of them against one."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="callgrind.", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)
        server = servers.Server(Path(directory) / "postgres", 1, 100)
        try:
            proxies = servers.Proxies(Path(directory), server)
            for threads in (1, 2):
                short, long = (min(one(proxies, threads, transactions) for _ in range(RUNS))
                               for transactions in (SHORT, LONG))
                found[threads] = round((long - short) / (LONG - SHORT))
        finally:
            server.stop()
    return {"workers": found, "workers_ratio": found[2] / found[1]}
