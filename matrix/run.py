#!/usr/bin/env python3
"""Runs every driver over every transport on every Postgres here, and writes docs/matrix.md.

QUICK=1 takes Postgres 15 alone and writes beside the build. Arguments, if any, choose rows and columns
by parts of their names, and only print. Exits with 1 if a cell that ran has failed.
"""

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from runner import cell, certificates, drivers, places, proxy, server, table

# Most of a cell is waiting; more of them would disturb each other on few processors.
AT_ONCE = 4


def chosen(items, words, name):
    """Those that a word names, or all if none of the words names any."""
    found = [item for item in items if any(word in name(item).lower() for word in words)]
    return found or items


def on_version(version, bin_dir, base, certs, rows, columns):
    """All cells of one Postgres, and its exact version."""
    postgres = server.Server(version, bin_dir, base / f"pg{version}", certs)
    proxies = []
    try:
        for column in columns:
            proxies.append(proxy.Proxy(column, postgres, base / f"{version}-{column.name}", certs))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            jobs = [pool.submit(cell.run, row, one) for row in rows for one in proxies]
            cells = []
            for job in jobs:
                cells.append(job.result())
                show(cells[-1])
        return cells, postgres.exact_version()
    finally:
        for one in proxies:
            one.stop()
        postgres.stop()


def show(one):
    line = f"{one.version} {one.driver}, {one.transport}: {one.state}"
    if one.state != "ok":
        line += f": {one.text}"
    print(f"{line} ({one.seconds} s)", flush=True)
    if one.state == "failed":
        print("    " + one.detail.strip().replace("\n", "\n    "), flush=True)


def main():
    words = [word.lower() for word in sys.argv[1:]]
    columns = chosen(proxy.transports(), words, lambda column: column.name)
    rows = chosen(drivers.rows(), words, lambda row: row.name)
    found = places.servers()
    if os.environ.get("QUICK"):
        found = {15: found[15]}
    cells, exact = [], dict.fromkeys(found)
    with tempfile.TemporaryDirectory(prefix="pgdrain-matrix-", dir=places.temporary()) as base:
        os.chmod(base, 0o755)
        base = Path(base)
        certificates.make(base / "certificates", places.account())
        for version, bin_dir in found.items():
            if bin_dir is None:
                print(f"{version}: not here; `make versions` fetches it", flush=True)
                continue
            more, exact[version] = on_version(version, bin_dir, base, base / "certificates", rows, columns)
            cells += more
    (places.TARGET / "results.json").write_text(json.dumps([asdict(one) for one in cells], indent=1))
    pgdrain = subprocess.check_output([places.PGDRAIN, "--version"], text=True).split()[-1]
    text = table.write(cells, rows, columns, exact, pgdrain)
    whole = not words and not os.environ.get("QUICK")
    file = places.REPOSITORY / "docs" / "matrix.md" if whole else places.TARGET / "matrix.md"
    file.write_text(text)
    failed = sum(one.state == "failed" for one in cells)
    print(f"{sum(one.state == 'ok' for one in cells)} ok, {failed} failed, "
          f"{sum(one.state == 'impossible' for one in cells)} not possible; see {file}")
    return 1 if failed else 0


sys.exit(main())
