"""A throw-away Postgres of one version."""

import os
import shutil
import signal
import socket
import subprocess
import time

from . import places

# Nothing here has to survive a crash of the machine.
SETTINGS = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{directory}'
fsync = off
full_page_writes = off
autovacuum = off
shared_buffers = '64MB'
max_connections = 300
wal_level = logical
max_wal_senders = 30
max_replication_slots = 30
wal_keep_size = 2GB
max_prepared_transactions = 10
password_encryption = 'scram-sha-256'
ssl = on
ssl_cert_file = '{certificates}/postgres.crt'
ssl_key_file = '{certificates}/postgres.key'
"""

# The user `encrypted` gets in only over TLS, so that its success shows that the server's side had it.
RULES = """\
local all,replication postgres trust
host all,replication postgres 127.0.0.1/32 trust
host all,replication trusted 127.0.0.1/32 trust
hostssl all,replication encrypted 127.0.0.1/32 trust
host all,replication secret 127.0.0.1/32 scram-sha-256
"""

ROLES = """\
create role trusted login superuser;
create role encrypted login superuser;
create role secret login superuser password $password$correct horse 'battery'$password$;
"""


class Server:
    """Runs from creation to `stop`."""

    def __init__(self, version, bin_dir, directory, certificates):
        self.version, self.bin_dir, self.directory = version, bin_dir, directory
        self.account = places.account()
        directory.mkdir()
        if self.account:
            os.chown(directory, self.account.pw_uid, self.account.pw_gid)
        subprocess.run(["setpriv", *places.identity(self.account), bin_dir / "initdb", "-D", directory / "data",
                        "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8", "-N"],
                       check=True, capture_output=True, cwd=directory, env=places.environment())
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        with open(directory / "data" / "postgresql.conf", "a") as settings:
            settings.write(SETTINGS.format(port=self.port, directory=directory, certificates=certificates))
        (directory / "data" / "pg_hba.conf").write_text(RULES)
        log = open(directory / "log", "ab")
        self.process = places.start([bin_dir / "postgres", "-D", directory / "data"], log, self.account, cwd=directory)
        self.wait()
        self.sql(ROLES)

    def wait(self):
        deadline = time.monotonic() + 60
        while True:
            ready = subprocess.run([places.TOOLS / "pg_isready", "-q", "-h", self.directory, "-p", str(self.port)])
            if ready.returncode == 0:
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.directory / "log").read_text()[-2000:])
            time.sleep(0.05)

    def sql(self, text, database="postgres"):
        """Runs statements as the superuser, not through pgdrain; gives what they print."""
        ran = subprocess.run([places.TOOLS / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", self.directory,
                              "-p", str(self.port), "-U", "postgres", "-d", database],
                             input=text, text=True, capture_output=True, env=places.environment())
        if ran.returncode != 0:
            raise RuntimeError(f"{text}: {ran.stderr}")
        return ran.stdout.strip()

    def exact_version(self):
        return self.sql("show server_version").split()[0]

    def stop(self):
        places.stop(self.process, signal.SIGINT)
        shutil.rmtree(self.directory, ignore_errors=True)
