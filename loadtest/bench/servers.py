"""The server, and the proxies in front of it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from . import places

DATABASE, USER = "bench", "bench"

# Nothing here has to survive a crash of the machine.
SETTINGS = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{directory}'
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
shared_buffers = '512MB'
max_connections = {connections}
"""

PGDRAIN = """\
listen = ["127.0.0.1:{port}"]
state_dir = "{directory}/state"
workers = {workers}

[tls]
certificate = "{certificate}"
key = "{key}"

[admin]
listen = "127.0.0.1:0"

[upstream]
url = "{url}"

{more}
"""

PGBOUNCER = """\
[databases]
{database} = host=127.0.0.1 port={server} dbname={database}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
admin_users = {user}
auth_file = {directory}/users
pool_mode = {mode}
max_client_conn = 9000
default_pool_size = {pool}
server_lifetime = 3600
query_wait_timeout = 120
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
client_tls_sslmode = allow
client_tls_cert_file = {certificate}
client_tls_key_file = {key}
"""

HAPROXY = """\
global
    maxconn 4000
    nbthread 2
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen pg
    bind 127.0.0.1:{port}
    server s1 127.0.0.1:{server}
"""


def wait_for(port, process, log):
    """Until somebody listens there."""
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{process.args}: {log.read_text()[-2000:]}") from None
            time.sleep(0.02)


class Server:
    """A Postgres filled by pgbench; runs from creation to `stop`."""

    def __init__(self, directory, scale, connections):
        self.directory, who = directory, places.account()
        directory.mkdir()
        if who:
            os.chown(directory, who.pw_uid, who.pw_gid)
        subprocess.run([places.program("setpriv"), *places.identity(who), places.program(places.TOOLS / "initdb"),
                        "-D", directory / "data", "-U", USER, "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8", "-N"],
                       check=True, capture_output=True, cwd=directory, env=places.environment())
        self.port = places.free_port()
        with open(directory / "data" / "postgresql.conf", "a") as settings:
            settings.write(SETTINGS.format(port=self.port, directory=directory, connections=connections))
        log = directory / "log"
        with open(log, "ab") as to:
            self.process = places.start([places.TOOLS / "postgres", "-D", directory / "data"], to, who, cwd=directory)
        self.pid = self.process.pid
        try:
            wait_for(self.port, self.process, log)
            self.fill(scale)
        except BaseException:
            self.stop()
            raise

    def fill(self, scale):
        self.sql(f"create database {DATABASE}", "postgres")
        subprocess.run([places.TOOLS / "pgbench", "-i", "-q", "-s", str(scale), "-h", "127.0.0.1", "-p", str(self.port),
                        "-U", USER, DATABASE], check=True, capture_output=True, env=places.environment())
        self.sql("create unlogged table loadtest_in (t text)")
        self.sql("vacuum analyze")

    def sql(self, text, database=DATABASE):
        """Runs statements, not through a proxy; gives what they print. The first tries may come too early."""
        deadline = time.monotonic() + 30
        while True:
            ran = subprocess.run([places.TOOLS / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p",
                                  str(self.port), "-U", USER, "-d", database],
                                 input=text, text=True, capture_output=True, env=places.environment())
            if ran.returncode == 0:
                return ran.stdout.strip()
            if "starting up" not in ran.stderr or time.monotonic() > deadline:
                raise RuntimeError(f"{text}: {ran.stderr}")
            time.sleep(0.1)

    def stop(self):
        places.stop(self.process, signal.SIGINT)
        shutil.rmtree(self.directory, ignore_errors=True)


class Target:
    """Where clients connect: the server itself, or a proxy before it. `about` goes into the report."""

    def __init__(self, name, about, port, process=None, tls=False):
        self.name, self.about, self.port, self.process, self.tls = name, about, port, process, tls
        self.pid = process.pid if process else None

    def stop(self):
        if self.process:
            places.stop(self.process)


# By name, how each is made; in transaction pooling a client has a server connection while it works.
KINDS = {
    "pgdrain-1": lambda proxies, name: proxies.pgdrain(name, 1),
    "pgdrain-1-again": lambda proxies, name: proxies.pgdrain(name, 1),
    "pgdrain-2": lambda proxies, name: proxies.pgdrain(name, 2),
    "pgdrain-read-only": lambda proxies, name: proxies.pgdrain_read_only(name),
    "pgbouncer-session": lambda proxies, name: proxies.pgbouncer(name, "session", 1000),
    "pgbouncer-tx": lambda proxies, name: proxies.pgbouncer(name, "transaction", 20),
    "haproxy": lambda proxies, name: proxies.haproxy(name),
    "pump-1": lambda proxies, name: proxies.pump(name, 1),
    "pump-2": lambda proxies, name: proxies.pump(name, 2),
}


class Proxies:
    """Starts proxies in directories of their own."""

    def __init__(self, directory, server):
        self.directory, self.server, self.made = directory, server, 0
        self.certificate, self.key = directory / "proxy.crt", directory / "proxy.key"
        subprocess.run([places.program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost", "-days", "2",
                        "-keyout", self.key, "-out", self.certificate],
                       check=True, capture_output=True)
        self.fill = {"server": server.port, "database": DATABASE, "user": USER,
                     "certificate": self.certificate, "key": self.key}

    def make(self, name):
        """A fresh process of a kind in KINDS."""
        return KINDS[name](self, name)

    def start(self, name, about, command, files=None, who=None, **options):
        """`command` and the contents of `files` may name {port} and {directory}."""
        self.made += 1
        directory, port = self.directory / f"{name}.{self.made}", places.free_port()
        directory.mkdir()
        fill = self.fill | {"port": port, "directory": directory} | options
        for file, text in (files or {}).items():
            (directory / file).write_text(text.format(**fill))
        if who:
            for path in (directory, *directory.iterdir()):
                os.chown(path, who.pw_uid, who.pw_gid)
        log = directory / "log"
        with open(log, "wb") as to:
            process = places.start([str(part).format(**fill) for part in command], to, who, cwd=directory)
        target = Target(name, about, port, process, tls=files is not None and "{certificate}" in "".join(files.values()))
        try:
            wait_for(port, process, log)
        except BaseException:
            target.stop()
            raise
        target.directory = directory
        return target

    def pgdrain(self, name, workers, more="", url=None, prefix=()):
        url = url or f"postgres://{USER}@127.0.0.1:{self.server.port}/{DATABASE}?sslmode=disable"
        target = self.start(name, f"pgdrain, workers = {workers}",
                            [*prefix, places.program(places.PGDRAIN), "serve", "--config", "{directory}/pgdrain.toml"],
                            {"pgdrain.toml": PGDRAIN}, workers=workers, more=more, url=url)
        target.admin = f"http://{endpoint_of(target)}"
        return target

    def pgdrain_read_only(self, name):
        """In read-only mode for longer than anything here takes."""
        target = self.pgdrain(name, 1)
        target.about += ", in read-only mode"
        try:
            admin(target, "PUT", f"/v1/databases/{DATABASE}/mode?wait=drained", {"mode": "read_only", "for": "3h"})
        except BaseException:
            target.stop()
            raise
        return target

    def pgbouncer(self, name, mode, pool):
        """Not as root, which it refuses to run as."""
        program, who = places.program("pgbouncer"), places.account()
        if who:
            os.chown(self.key, who.pw_uid, who.pw_gid)
        version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
        return self.start(name, f"{version.splitlines()[0]}, pool_mode = {mode}",
                          [program, "-q", "{directory}/pgbouncer.ini"],
                          {"pgbouncer.ini": PGBOUNCER, "users": '"{user}" ""\n'}, who, mode=mode, pool=pool)

    def haproxy(self, name):
        program = places.program("haproxy")
        version = subprocess.run([program, "-v"], capture_output=True, text=True).stdout
        return self.start(name, f"{' '.join(version.split()[:3])}, mode tcp, 2 threads",
                          [program, "-db", "-f", "{directory}/haproxy.cfg"], {"haproxy.cfg": HAPROXY}, places.account())

    def pump(self, name, threads):
        return self.start(name, f"byte pump, {threads} threads" if threads > 1 else "byte pump, 1 thread",
                          [places.program(places.PUMP), "127.0.0.1:{port}", "127.0.0.1:{server}", threads])

    def scripted(self, name):
        """A server that answers without a Postgres; see `scripted`."""
        return self.start(name, "scripted server", [sys.executable, Path(__file__).parent / "scripted.py", "{port}"])


def endpoint_of(target):
    """Where pgdrain says that its admin interface is; it listens for clients a moment earlier."""
    deadline, file = time.monotonic() + 30, target.directory / "state" / "endpoints.json"
    while True:
        try:
            return json.loads(file.read_text())["admin"]
        except (OSError, ValueError):
            if target.process.poll() is not None or time.monotonic() > deadline:
                target.stop()
                raise RuntimeError(f"pgdrain: {(target.directory / 'log').read_text()[-2000:]}") from None
            time.sleep(0.02)


def admin(target, method, path, body=None):
    """A request to pgdrain's admin interface; gives the JSON of the answer."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(target.admin + path, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or b"null")
