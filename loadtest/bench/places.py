"""Where things are, and how processes are started and ended."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
RESULTS = TARGET / "loadtest"
PGDRAIN = Path(os.environ.get("PGDRAIN", TARGET / "release" / "pgdrain"))
PUMP = TARGET / "release" / "examples" / "pump"
POSTGRES = Path(os.environ.get("PG_BIN", "/usr/lib/postgresql/15/bin"))


def program(name):
    """A program of the system, also where root's PATH is short of it."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not found:
        raise SystemExit(f"loadtest: {name} is not here; run loadtest/setup")
    return found


def account():
    """Who owns the cluster: Postgres refuses to run as root, and so does PgBouncer."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise SystemExit("loadtest: there is neither a user postgres nor nobody to run Postgres as")


def identity(who):
    """Becomes that user, on a command line."""
    if not who:
        return []
    return [f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--clear-groups"]


def environment(**more):
    """Ours, without what libpq and pgdrain would read of it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "PGDRAIN_"))}
    return kept | {"LC_ALL": "C.UTF-8", "PGPASSFILE": "/dev/null", "PGCONNECT_TIMEOUT": "30"} | more


def start(command, log, who=None, **options):
    """A process that ends with us, however we end."""
    return subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *identity(who), *map(str, command)],
                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(), **options)


def stop(process, how=signal.SIGTERM):
    """Asks a process that we started to end, and makes it."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
