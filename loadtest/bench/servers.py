"""The server, and the proxies in front of it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

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
url = "postgres://{user}@127.0.0.1:{server}/{database}?sslmode=disable"

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
        subprocess.run(["setpriv", *places.identity(who), places.POSTGRES / "initdb", "-D", directory / "data", "-U", USER,
                        "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8", "-N"],
                       check=True, capture_output=True, cwd=directory, env=places.environment())
        self.port = places.free_port()
        with open(directory / "data" / "postgresql.conf", "a") as settings:
            settings.write(SETTINGS.format(port=self.port, directory=directory, connections=connections))
        log = directory / "log"
        with open(log, "ab") as to:
            self.process = places.start([places.POSTGRES / "postgres", "-D", directory / "data"], to, who, cwd=directory)
        self.pid = self.process.pid
        wait_for(self.port, self.process, log)
        self.sql(f"create database {DATABASE}", "postgres")
        subprocess.run([places.POSTGRES / "pgbench", "-i", "-q", "-s", str(scale), "-h", "127.0.0.1", "-p", str(self.port),
                        "-U", USER, DATABASE], check=True, capture_output=True, env=places.environment())
        self.sql("create unlogged table loadtest_in (t text)")
        self.sql("vacuum analyze")

    def sql(self, text, database=DATABASE):
        """Runs statements, not through a proxy; gives what they print. The first tries may come too early."""
        deadline = time.monotonic() + 30
        while True:
            ran = subprocess.run([places.POSTGRES / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p",
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
        self.reads_only = name.endswith("read-only")

    def stop(self):
        if self.process:
            places.stop(self.process)


class Proxies:
    """Starts proxies in directories of their own."""

    def __init__(self, directory, server):
        self.directory, self.server = directory, server
        self.certificate, self.key = directory / "proxy.crt", directory / "proxy.key"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-subj", "/CN=localhost", "-days", "2", "-keyout", self.key, "-out", self.certificate],
                       check=True, capture_output=True)
        self.fill = {"server": server.port, "database": DATABASE, "user": USER,
                     "certificate": self.certificate, "key": self.key}

    def start(self, name, about, command, files=None, who=None, **options):
        """`command` and the contents of `files` may name {port} and {directory}."""
        directory, port = self.directory / name, places.free_port()
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
        wait_for(port, process, log)
        return Target(name, about, port, process, tls=files is not None and "{certificate}" in "".join(files.values()))

    def pgdrain(self, name, workers, more=""):
        command = [places.PGDRAIN, "serve", "--config", "{directory}/pgdrain.toml"]
        target = self.start(name, f"pgdrain, workers = {workers}", command, {"pgdrain.toml": PGDRAIN}, workers=workers,
                            more=more)
        endpoints = json.loads((self.directory / name / "state" / "endpoints.json").read_text())
        target.admin = f"http://{endpoints['admin']}"
        return target

    def pgbouncer(self, name, mode, pool):
        who = places.account()
        if who:
            os.chown(self.key, who.pw_uid, who.pw_gid)
        version = subprocess.run([places.program("pgbouncer"), "--version"], capture_output=True, text=True).stdout
        return self.start(name, f"{version.splitlines()[0]}, pool_mode = {mode}",
                          [places.program("pgbouncer"), "-q", "{directory}/pgbouncer.ini"],
                          {"pgbouncer.ini": PGBOUNCER, "users": '"{user}" ""\n'}, who, mode=mode, pool=pool)

    def haproxy(self, name):
        version = subprocess.run([places.program("haproxy"), "-v"], capture_output=True, text=True).stdout
        return self.start(name, f"{' '.join(version.split()[:3])}, mode tcp, 2 threads",
                          [places.program("haproxy"), "-db", "-f", "{directory}/haproxy.cfg"], {"haproxy.cfg": HAPROXY})

    def pump(self, name, threads):
        return self.start(name, f"byte pump, {threads} threads" if threads > 1 else "byte pump, 1 thread",
                          [places.PUMP, "127.0.0.1:{port}", "127.0.0.1:{server}", threads])


def admin(target, method, path, body=None):
    """A request to pgdrain's admin interface; gives the JSON of the answer."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(target.admin + path, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or b"null")
