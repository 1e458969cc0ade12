"""Where things are. Processes are started and ended as those of `make matrix` are."""

import os
import random
import shutil
import socket
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "matrix"))
from runner import places as matrix  # noqa: E402
from runner.places import (  # noqa: E402, F401
    PGDRAIN, REPOSITORY, TOOLS, account, environment, identity, start, stop)

TARGET = matrix.TARGET.parent
RESULTS = TARGET / "loadtest"
PUMP = TARGET / "release" / "examples" / "pump"


def program(name):
    """A program of the system, also where root's PATH is short of it."""
    found = shutil.which(str(name), path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not found:
        raise SystemExit(f"loadtest: {name} is not here; run loadtest/setup, or set PG_BIN to Postgres's programs")
    return found


def free_port():
    """Below those that the kernel gives to clients: one of these may be taken again before it is used."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as free:
            try:
                free.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
