"""Starts a server and proxies before it, gives each the same work in turn, and says what it cost them.

usage: run.py [--rounds N] [--only PATTERN,PATTERN] [--targets NAME,NAME] [--out DIRECTORY]

QUICK=1 does less of everything, for a look in two minutes.
"""

import argparse
import fnmatch
import os
import sys
import tempfile
import time
from pathlib import Path

from bench import holds, places, report, servers, workloads

QUICK = os.environ.get("QUICK") == "1"


def arguments():
    parser = argparse.ArgumentParser(description="Proxies side by side")
    parser.add_argument("--rounds", type=int, default=1 if QUICK else 5)
    parser.add_argument("--only", default="select-extended-c16,copy-out,idle,holds" if QUICK else "*")
    parser.add_argument("--targets", default="*")
    parser.add_argument("--out", type=Path, default=places.RESULTS)
    return parser.parse_args()


def chosen(name, patterns):
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns.split(","))


def start(proxies, server, patterns):
    """The proxies that were asked for; in transaction pooling each client has a server connection while it works."""
    makers = {
        "pgdrain-1": lambda name: proxies.pgdrain(name, 1),
        "pgdrain-1-again": lambda name: proxies.pgdrain(name, 1),
        "pgdrain-2": lambda name: proxies.pgdrain(name, 2),
        "pgdrain-read-only": lambda name: proxies.pgdrain(name, 1),
        "pgbouncer-session": lambda name: proxies.pgbouncer(name, "session", 1000),
        "pgbouncer-tx": lambda name: proxies.pgbouncer(name, "transaction", 20),
        "haproxy": lambda name: proxies.haproxy(name),
        "pump-1": lambda name: proxies.pump(name, 1),
        "pump-2": lambda name: proxies.pump(name, 2),
    }
    yield servers.Target("direct", "the server itself", server.port)
    for name, make in makers.items():
        if chosen(name, patterns):
            yield make(name)


def run_all(targets, server, options):
    """Every workload on every target in each round; who comes first changes from round to round."""
    sizes = workloads.QUICK if QUICK else workloads.FULL
    plan = [workload for workload in workloads.all_of(sizes) if chosen(workload.name, options.only)]
    samples = []
    for turn in range(options.rounds):
        for workload in plan:
            begin = turn % len(targets)
            for target in targets[begin:] + targets[:begin]:
                if not workload.fits(target) or (workload.name.startswith("idle") and turn > 0):
                    # An allocator seldom gives back: only fresh processes tell what a connection takes.
                    continue
                try:
                    sample = workloads.measured(workload, target, server)
                except Exception as error:  # One that cannot be measured is said so; the others go on.
                    sample = {"workload": workload.name, "unit": workload.unit, "target": target.name,
                              "error": repr(error)[:400]}
                samples.append(sample | {"round": turn})
                print(f"{turn} {workload.name:26} {target.name:18} "
                      f"{report.shown(report.figure(sample)) or sample.get('error', '')}", flush=True)
    return samples


def main():
    options = arguments()
    places.RESULTS.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    run = {"when": time.strftime("%Y-%m-%d"), "machine": f"{os.cpu_count()} cores", "rounds": options.rounds,
           "quick": QUICK}
    with tempfile.TemporaryDirectory(prefix="loadtest.", dir=memory) as directory:
        directory = Path(directory)
        # Others than us own what is in it.
        directory.chmod(0o755)
        server, targets = servers.Server(directory / "postgres", 2 if QUICK else 20, 1200), []
        try:
            proxies = servers.Proxies(directory, server)
            targets.extend(start(proxies, server, options.targets))
            for target in targets:
                if target.reads_only:
                    servers.admin(target, "PUT", f"/v1/databases/{servers.DATABASE}/mode?wait=drained",
                                  {"mode": "read_only", "for": "3h"})
            run["targets"] = {target.name: target.about for target in targets}
            run["samples"] = run_all(targets, server, options)
            ours = next((target for target in targets if target.name == "pgdrain-1"), None)
            if ours and chosen("holds", options.only):
                run["holds"] = holds.measure(ours, 2 if QUICK else 10)
        finally:
            for target in targets:
                target.stop()
            server.stop()
    report.write(run, options.out)
    print(report.markdown(run))
    from bench import plots
    plots.draw(run, options.out)
    if any("error" in sample for sample in run["samples"]):
        sys.exit("loadtest: not everything could be measured")


if __name__ == "__main__":
    main()
