"""Starts a server and proxies before it, gives each the same work in turn, and says what it cost them.

usage: run.py [--rounds N] [--only PATTERN,PATTERN] [--targets NAME,NAME] [--minutes N] [--out DIRECTORY]

QUICK=1 does less of everything, for a look in two minutes.
"""

import argparse
import fnmatch
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import holds, places, report, servers, upkeep, workloads

try:
    from bench import plots
except ImportError as error:
    sys.exit(f"loadtest: {error}; run it by `make loadtest`, or with the python of {places.RESULTS}/venv")

QUICK = os.environ.get("QUICK") == "1"
SIZES = workloads.QUICK if QUICK else workloads.FULL
LOOK = "select-extended-c16,pipeline-c16,connect-c8,copy-out,rows-1MB,idle,idle-tls,holds,upkeep"


def arguments():
    parser = argparse.ArgumentParser(description="Proxies side by side")
    parser.add_argument("--rounds", type=int, default=1 if QUICK else 5)
    parser.add_argument("--only", default=LOOK if QUICK else "*", help="workloads, and holds, upkeep, callgrind")
    parser.add_argument("--targets", default="*")
    parser.add_argument("--minutes", type=float, default=2 if QUICK else 20, help="when they are over, what is left is not done")
    parser.add_argument("--out", type=Path, default=places.RESULTS)
    return parser.parse_args()


def chosen(name, patterns):
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns.split(","))


def sample_of(workload, target, proxies, server):
    """One that cannot be measured is said so; the others go on."""
    told = {"workload": workload.name, "unit": workload.unit, "target": target.name}
    try:
        if not workload.fresh:
            return told | workloads.measured(workload, target, server)
        fresh = proxies.make(target.name)
        try:
            return told | workloads.measured(workload, fresh, server)
        finally:
            fresh.stop()
    except Exception as error:
        return told | {"error": repr(error)[:400]}


def run_all(run, targets, proxies, options, deadline):
    """Every workload on every target in each round; who comes first changes from round to round."""
    plan = [workload for workload in workloads.all_of(SIZES) if chosen(workload.name, options.only)]
    for turn in range(options.rounds):
        for workload in plan:
            if workload.fresh and turn >= SIZES.idle_rounds:
                continue
            takers = [target for target in targets.values() if target.name in workload.targets]
            begin = turn % max(1, len(takers))
            for target in takers[begin:] + takers[:begin]:
                if time.monotonic() > deadline:
                    run["stopped"] = f"Out of time in round {turn + 1}: what is left was not measured."
                    return
                sample = sample_of(workload, target, proxies, proxies.server) | {"round": turn}
                run["samples"].append(sample)
                print(f"{turn} {workload.name:26} {target.name:18} "
                      f"{report.shown(report.figure(sample)) or sample.get('error', '')}", flush=True)


def beside(run, name, measure, options):
    """What is not done in rounds. A part that fails does not take the rest with it."""
    if not chosen(name, options.only):
        return
    print(f"  {name}", flush=True)
    try:
        run[name] = measure()
    except Exception as error:
        run["samples"].append({"workload": name, "target": "pgdrain", "unit": "", "error": repr(error)[:400]})


def instructions():
    """What callgrind counts, which is the same in every run."""
    program = places.REPOSITORY / "loadtest" / "callgrind" / "count.py"
    subprocess.run([sys.executable, program], check=True, timeout=300)
    return json.loads((places.RESULTS / "callgrind.json").read_text())


def measure(run, directory, options):
    """Fills `run`. Whatever was started has ended afterwards."""
    # What comes behind the rounds takes its time too.
    behind = 40 + 2 * SIZES.watched + 7 * SIZES.holds + (0 if QUICK else 90)
    deadline = time.monotonic() + options.minutes * 60 - behind
    server, targets = servers.Server(directory / "postgres", SIZES.scale, 1200), {}
    try:
        proxies = servers.Proxies(directory, server)
        targets["direct"] = servers.Target("direct", "the server itself", server.port)
        for name in servers.KINDS:
            if chosen(name, options.targets):
                targets[name] = proxies.make(name)
        run["targets"] = {name: target.about for name, target in targets.items()}
        run_all(run, targets, proxies, options, deadline)
        beside(run, "holds", lambda: holds.measure(targets, SIZES.holds), options)
        beside(run, "upkeep", lambda: upkeep.measure(proxies, SIZES.kept_up, SIZES.watched), options)
    finally:
        for target in targets.values():
            target.stop()
        server.stop()


def interrupted(sign, _):
    # Once is enough: cleaning up is not to be interrupted.
    signal.signal(sign, signal.SIG_IGN)
    sys.exit("loadtest: interrupted")


def prepare():
    """Any end of ours is one that cleans up; and there are many sockets."""
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, interrupted)
    for program in ("setpriv", "openssl", places.TOOLS / "initdb", places.TOOLS / "pgbench", places.PGDRAIN):
        places.program(program)
    wanted, (_, hard) = 65_536, resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, hard), max(wanted, hard)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main():
    options = arguments()
    prepare()
    for directory in (places.RESULTS, options.out):
        directory.mkdir(parents=True, exist_ok=True)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    run = {"when": time.strftime("%Y-%m-%d"), "machine": f"{os.cpu_count()} cores", "rounds": options.rounds,
           "quick": QUICK, "whole": options.only == "*", "targets": {}, "samples": []}
    with tempfile.TemporaryDirectory(prefix="loadtest.", dir=memory, ignore_cleanup_errors=True) as directory:
        # Others than us own what is in it.
        Path(directory).chmod(0o755)
        measure(run, Path(directory), options)
    if not QUICK:
        beside(run, "callgrind", instructions, options)
    report.write(run, options.out)
    plots.draw(run, options.out)
    print(report.markdown(run))
    if any("error" in sample for sample in run["samples"]):
        sys.exit("loadtest: not everything could be measured")


if __name__ == "__main__":
    main()
