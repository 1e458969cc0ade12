"""What the page is tried on: a throw-away Postgres, a pgdrain before it, and clients at work."""

import base64
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "matrix"))

from runner import places  # noqa: E402

DATABASE = "shop"
USER = "postgres"
# Of somebody who may do everything.
TOKEN = "pgdrain_" + base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")
# Of somebody who may only look.
VIEWER = "pgdrain_" + base64.urlsafe_b64encode(bytes(range(32, 64))).decode().rstrip("=")
PGDRAIN = Path(os.environ.get("PGDRAIN", places.TARGET.parent / "debug" / "pgdrain"))

# Nothing here has to survive a crash of the machine.
SETTINGS = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{directory}'
fsync = off
full_page_writes = off
shared_buffers = '64MB'
max_connections = 120
max_prepared_transactions = 2
"""

CONFIGURATION = """\
listen = ["127.0.0.1:0"]
state_dir = "{directory}/state"

[admin]
listen = "127.0.0.1:{admin}"
local = {local}
tokens = [{{ name = "anna", role = "admin", sha256 = "{token}" }}, {{ name = "vera", role = "viewer", sha256 = "{viewer}" }}]

[upstream]
url = "postgres://postgres@127.0.0.1:{port}"
{more}
"""


def until(what, look, patience=30):
    """Waits until `look()` gives something, and gives that."""
    deadline = time.monotonic() + patience
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience} s: {what}")
        time.sleep(0.05)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Postgres:
    """Runs from creation to `stop`."""

    def __init__(self, directory):
        self.directory, self.port, account = directory, free_port(), places.account()
        directory.mkdir()
        if account:
            os.chown(directory, account.pw_uid, account.pw_gid)
        subprocess.run(["setpriv", *places.identity(account), places.TOOLS / "initdb", "-D", directory / "data", "-U", USER,
                        "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8", "-N"],
                       check=True, capture_output=True, cwd=directory, env=places.environment())
        with open(directory / "data" / "postgresql.conf", "a") as settings:
            settings.write(SETTINGS.format(port=self.port, directory=directory))
        with open(directory / "log", "ab") as log:
            self.process = places.start([places.TOOLS / "postgres", "-D", directory / "data"], log, account, cwd=directory)
        ready = [places.TOOLS / "pg_isready", "-q", "-h", str(directory), "-p", str(self.port)]
        until("Postgres answers", lambda: subprocess.run(ready).returncode == 0)
        self.sql(f"create database {DATABASE}", "postgres")

    def sql(self, text, database=DATABASE):
        """Runs statements past pgdrain; gives what they print."""
        ran = subprocess.run(psql(self.directory, self.port, database), input=text, text=True, capture_output=True,
                             env=places.environment())
        if ran.returncode != 0:
            raise AssertionError(f"{text}: {ran.stderr}")
        return ran.stdout.strip()

    def stop(self):
        places.stop(self.process, signal.SIGINT)
        shutil.rmtree(self.directory, ignore_errors=True)


def psql(host, port, database=DATABASE):
    return [places.TOOLS / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", str(host), "-p", str(port), "-U", USER, "-d", database]


class Pgdrain:
    """May be stopped and started again at the same addresses."""

    def __init__(self, postgres, directory, more="", local=("look", "hold", "open")):
        self.directory, self.admin_port, self.process = directory, free_port(), None
        directory.mkdir()
        token, viewer = (hashlib.sha256(it.encode()).hexdigest() for it in (TOKEN, VIEWER))
        fill = {"directory": directory, "admin": self.admin_port, "port": postgres.port, "more": more,
                "local": json.dumps(local), "token": token, "viewer": viewer}
        (directory / "pgdrain.toml").write_text(CONFIGURATION.format(**fill))
        self.start()

    def start(self):
        endpoints = self.directory / "state" / "endpoints.json"
        endpoints.unlink(missing_ok=True)
        with open(self.directory / "log", "ab") as log:
            self.process = places.start([PGDRAIN, "serve", "--config", self.directory / "pgdrain.toml"], log)
        until("pgdrain serves", lambda: endpoints.exists() or self.process.poll() is not None)
        if self.process.poll() is not None:
            raise AssertionError((self.directory / "log").read_text()[-2000:])
        listen = json.loads(endpoints.read_text())["listen"][0]
        self.port, self.url = int(listen.rsplit(":", 1)[1]), f"http://127.0.0.1:{self.admin_port}"

    def stop(self):
        places.stop(self.process)


class Load:
    """pgbench through pgdrain, until it is stopped; `wrong()` says what an application would have noticed."""

    def __init__(self, postgres, pgdrain, clients=6):
        host = ["-h", str(postgres.directory), "-p", str(postgres.port), "-U", USER]
        subprocess.run([places.TOOLS / "pgbench", "-i", "-q", *host, DATABASE], check=True, capture_output=True,
                       env=places.environment())
        command = [places.TOOLS / "pgbench", "-n", "-N", "-c", str(clients), "-T", "600", "-R", "200", "-h", "127.0.0.1",
                   "-p", str(pgdrain.port), "-U", USER, DATABASE]
        self.out = open(postgres.directory / "pgbench", "w+b")
        self.process = places.start(command, self.out, env=places.environment(PGAPPNAME="checkout"))

    def wrong(self):
        if self.process.poll() is None:
            return ""
        self.out.seek(0)
        return self.out.read().decode(errors="replace")[-800:]

    def stop(self):
        places.stop(self.process)


class Helper:
    """One of our scripts, once it has said that it is ready."""

    def __init__(self, script, *arguments):
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", sys.executable, str(script), *map(str, arguments)],
                                        text=True, stdout=subprocess.PIPE)
        said = self.process.stdout.readline().strip()
        if said != "ready":
            raise AssertionError(f"{script}: {said!r}")

    def stop(self):
        places.stop(self.process)
        self.process.stdout.close()


class Client:
    """A psql that is told what to do line by line, and so may sit in a transaction."""

    def __init__(self, pgdrain, name, database=DATABASE):
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *map(str, psql("127.0.0.1", pgdrain.port, database))], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=places.environment(PGAPPNAME=name, PGPASSFILE="/nonexistent"))
        self.pid = int(self.ask("select pg_backend_pid();"))

    def send(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def line(self):
        return self.process.stdout.readline().rstrip("\n")

    def ask(self, text):
        self.send(text)
        return self.line()

    def stop(self):
        self.process.stdin.close()
        places.stop(self.process)
        self.process.stdout.close()
