"""Where things are, and how processes are started and ended."""

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

MATRIX = Path(__file__).resolve().parent.parent
REPOSITORY = MATRIX.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "matrix"
PYTHON = TARGET / "venv" / "bin" / "python"
NODE = TARGET / "node"
RUST = TARGET / "rust" / "debug" / "pgdrain-matrix"
PGDRAIN = Path(os.environ.get("PGDRAIN", TARGET.parent / "release" / "pgdrain"))
NEWER = Path(os.environ.get("PGDRAIN_POSTGRES_DIR", "/var/tmp/pgdrain-postgres"))
# psql, pgbench and the like are of this version; newer ones come without them.
TOOLS = Path(os.environ.get("PG_BIN", "/usr/lib/postgresql/15/bin"))


def servers():
    """Directories of server programs by version; `None` for one that is not here."""
    found = {15: TOOLS}
    found |= {version: NEWER / str(version) / "bin" for version in (16, 17, 18)}
    return {version: bin_dir if (bin_dir / "initdb").exists() else None for version, bin_dir in found.items()}


def account():
    """Who owns the clusters: Postgres refuses to run as root."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise SystemExit("there is neither a user postgres nor nobody to run Postgres as")


def identity(who):
    """Becomes that account, on a command line of setpriv."""
    if not who:
        return []
    return [f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--clear-groups"]


def temporary():
    """Memory takes clusters faster than a disk, where there is enough of it."""
    memory = Path("/dev/shm")
    roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4_000_000_000
    return os.environ.get("TMPDIR") or (str(memory) if roomy else None)


def environment(**more):
    """Ours, without what libpq and pgdrain would read of it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "PGDRAIN_"))}
    return kept | {"LC_ALL": "C.UTF-8", "PGPASSFILE": "/dev/null", "PGCONNECT_TIMEOUT": "30"} | more


def start(command, log, who=None, **options):
    """A process of that account, or of ours, that ends with us, however we end."""
    return subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *identity(who), *map(str, command)],
                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, **{"env": environment()} | options)


def stop(process, how=signal.SIGTERM):
    """Asks a process that we started to end, and makes it."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
