#!/usr/bin/env python3
"""Lets schemathesis ask a pgdrain in front of a real Postgres whatever the OpenAPI document allows, and more.

It has failed if pgdrain answers with a 5xx that is no 503, with a status, a content type or a body that the
document does not have, or if it ends. What is asked follows from the seed (SCHEMATHESIS_SEED=number) and the
time (SCHEMATHESIS_TIME=seconds).
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from runner import places  # noqa: E402

SEED = os.environ.get("SCHEMATHESIS_SEED", "17")
TIME = int(os.environ.get("SCHEMATHESIS_TIME", "100"))
PGDRAIN = Path(os.environ.get("PGDRAIN", places.TARGET.parent / "debug" / "pgdrain")).resolve()
SCHEMATHESIS = (places.TARGET / "http" / "venv" / "bin" / "schemathesis").resolve()
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
SETTINGS = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{directory}'
fsync = off
max_connections = 50
"""
# What is asked for at random is soon over.
CONFIG = """\
listen = ["127.0.0.1:0"]
state_dir = "{directory}/state"
[upstream]
url = "postgres://postgres@127.0.0.1:{port}/postgres"
connect_retry = "1s"
[admin]
listen = "127.0.0.1:0"
{admin}
[hold]
for = "5s"
wait = "300ms"
cancel = "300ms"
stuck = "300ms"
abort = "300ms"
terminate = "300ms"
[read_only]
for = "5s"
"""


def postgres(directory):
    """A throw-away server; its port and process."""
    account = places.account()
    if account:
        os.chown(directory, account.pw_uid, account.pw_gid)
    subprocess.run(["setpriv", *places.identity(account), places.TOOLS / "initdb", "-D", directory / "data", "-U",
                    "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8", "-N"],
                   check=True, capture_output=True, cwd=directory, env=places.environment())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with open(directory / "data" / "postgresql.conf", "a") as settings:
        settings.write(SETTINGS.format(port=port, directory=directory))
    log = open(directory / "log", "ab")
    process = places.start([places.TOOLS / "postgres", "-D", directory / "data"], log, account, cwd=directory)
    ready = [places.TOOLS / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    wait(process, lambda: subprocess.run(ready).returncode == 0, directory / "log")
    return port, process


def wait(process, ready, log):
    deadline = time.monotonic() + 60
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(log.read_text()[-2000:])
        time.sleep(0.05)


def pgdrain(directory, port):
    """A proxy in front of it; its process and addresses."""
    directory.mkdir()
    admin = os.environ.get("SCHEMATHESIS_ADMIN", 'local = ["look", "hold", "open", "migrate", "approve", "administer"]')
    config = directory / "pgdrain.toml"
    config.write_text(CONFIG.format(directory=directory, port=port, admin=admin))
    log = open(directory / "log", "ab")
    process = places.start([PGDRAIN, "serve", "--config", config], log)
    endpoints = directory / "state" / "endpoints.json"
    wait(process, endpoints.exists, directory / "log")
    return process, json.loads(endpoints.read_text())


class Clients(threading.Thread):
    """Sessions of which there is something to see: whoever is thrown out comes again."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.address, self.over = address, threading.Event()
        self.start()

    def run(self):
        host, port = self.address.rsplit(":", 1)
        while not self.over.wait(0.2):
            script = "begin; select pg_sleep(0.3); select 1; commit; select pg_sleep(0.2);\n" * 5
            command = [places.TOOLS / "psql", "-Xq", "-h", host, "-p", port, "-U", "postgres", "-d", "postgres"]
            subprocess.run(command, input=script, text=True, capture_output=True, env=places.environment())


def main():
    if not shutil.which("setpriv") or not SCHEMATHESIS.exists():
        raise SystemExit("run matrix/http/setup first")
    with tempfile.TemporaryDirectory(prefix="pgdrain-http-", dir=places.temporary()) as temporary:
        directory = Path(temporary)
        directory.chmod(0o755)
        (directory / "postgres").mkdir()
        port, server = postgres(directory / "postgres")
        try:
            proxy, endpoints = pgdrain(directory / "pgdrain", port)
            clients = [Clients(endpoints["listen"][0]) for _ in range(3)]
            admin = f"http://{endpoints['admin']}"
            command = [SCHEMATHESIS, "--config-file", HERE / "schemathesis.toml", "run", f"{admin}/openapi.json",
                       "--seed", SEED, "--max-time", str(TIME),
                       "--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--request-timeout", "70",
                       "--max-examples", "40", "--continue-on-failure", "--no-color", *sys.argv[1:]]
            # An answer that has no end is no answer that could be checked.
            command += ["--exclude-path", "/v1/windows/{id}/events"]
            # What it keeps for its next run is of no use here.
            ran = subprocess.run(command, cwd=directory, env=places.environment())
            ended = proxy.poll()
            for each in clients:
                each.over.set()
            places.stop(proxy)
            log = (directory / "pgdrain" / "log").read_text()
            if ended is not None or "panicked" in log:
                print(log[-4000:])
                raise SystemExit("pgdrain did not survive it")
            raise SystemExit(ran.returncode)
        finally:
            places.stop(server)


if __name__ == "__main__":
    main()
