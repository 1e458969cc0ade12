"""Counts the instructions of one transaction through the relay and through a byte pump, both in memory, and of
one through the whole of pgdrain with one and with two worker threads. Unlike times, the former repeat.

usage: count.py [--bound N] [--no-workers]

With a bound it fails when the relay, asked by the extended protocol, takes more than that.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
from bench import places  # noqa: E402
from by_line import Profile  # noqa: E402

PROGRAM = places.TARGET / "release" / "examples" / "callgrind"
TRANSACTIONS = 3000
# The function of it that is counted, with all that it calls: what comes before is another in each run.
COUNTED = "*callgrind::transactions*"
KINDS = ("relay", "unlogged", "read-only", "pump", "none")


def of_one(kind, protocol):
    """The profile of a transaction."""
    with tempfile.TemporaryDirectory(prefix="callgrind.") as directory:
        out = Path(directory) / "out"
        subprocess.run([places.program("valgrind"), "--tool=callgrind", f"--callgrind-out-file={out}", "--compress-pos=no",
                        "--compress-strings=no", f"--toggle-collect={COUNTED}", PROGRAM, kind, protocol, str(TRANSACTIONS)],
                       check=True, capture_output=True, timeout=120, env=places.environment())
        profile = Profile(out.read_text(errors="replace"), TRANSACTIONS)
    if not profile.total:
        sys.exit(f"callgrind: nothing was counted: {PROGRAM} has no function {COUNTED}")
    return profile


def count(protocol):
    """Instructions by kind, and what of the relay's are for the gate, for measures, for the log."""
    of = {kind: of_one(kind, protocol) for kind in KINDS}
    own = of["none"].total
    result = {kind: round(of[kind].total - own) for kind in KINDS if kind != "none"} | {"counting": round(own)}
    parts = of["relay"].parts()
    # What the log takes where nothing is said: with it and without it.
    parts["logging"] = of["relay"].total - of["unlogged"].total
    # Reading and writing in memory is no work of the relay's; the share is that of what is left.
    relay = (of["relay"].total - of["relay"].of_lines) - (own - of["none"].of_lines)
    result["parts"] = {name: round(part, 1) for name, part in parts.items()}
    result["overhead_percent"] = round(100 * sum(parts.values()) / relay, 2)
    return result


def lines_of(counted):
    yield "| instructions per transaction | " + " | ".join(counted) + " |"
    yield "| --- |" + " --- |" * len(counted)
    for name in (*KINDS[:-1], "counting"):
        yield f"| {name} | " + " | ".join(str(of[name]) for of in counted.values()) + " |"
    for name in next(iter(counted.values()))["parts"]:
        yield f"| of the relay: {name} | " + " | ".join(str(of["parts"][name]) for of in counted.values()) + " |"
    yield "| these together, % of the relay | " + " | ".join(str(of["overhead_percent"]) for of in counted.values()) + " |"


def main():
    parser = argparse.ArgumentParser(description="Instructions of a transaction")
    parser.add_argument("--bound", type=int, help="of the relay, extended")
    parser.add_argument("--no-workers", action="store_true", help="leave out what needs a Postgres")
    options = parser.parse_args()
    places.program("valgrind")
    wanted = ["--example", "callgrind"] + ([] if options.no_workers else ["--bin", "pgdrain"])
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", *wanted], check=True, cwd=places.REPOSITORY)
    counted = {protocol: count(protocol) for protocol in ("simple", "extended")}
    print("\n".join(lines_of(counted)), flush=True)
    found = {"protocols": counted, "overhead_percent": max(of["overhead_percent"] for of in counted.values())}
    if not options.no_workers:
        import workers
        found |= workers.count()
        print(f"the whole of pgdrain: {found['workers']}; 2 workers to 1: {found['workers_ratio']:.3f}")
    places.RESULTS.mkdir(parents=True, exist_ok=True)
    (places.RESULTS / "callgrind.json").write_text(json.dumps(found, indent=1))
    check(found, options.bound)


def check(found, bound):
    """Fails when a bound that was asked for is passed."""
    relay = found["protocols"]["extended"]["relay"]
    if bound is not None and relay > bound:
        sys.exit(f"callgrind: the relay takes {relay} instructions, more than {bound}")


if __name__ == "__main__":
    main()
