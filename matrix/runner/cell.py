"""One cell: a driver's program, in a database of its own, through one proxy."""

import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field

from . import places

LIMIT = 120
HELD = 1.0
SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@dataclass
class Cell:
    """What came of it. `state` is ok, failed or impossible; `text` is the failing step or the reason."""

    driver: str
    transport: str
    version: int
    state: str = "failed"
    text: str = ""
    detail: str = ""
    driver_version: str = ""
    seconds: float = 0.0
    steps: list = field(default_factory=list)
    skipped: list = field(default_factory=list)


def run(driver, proxy):
    cell = Cell(driver.name, proxy.transport.name, proxy.server.version)
    why = driver.impossible(proxy.transport, proxy.server.version)
    if why:
        cell.state, cell.text = "impossible", why
        return cell
    began = time.monotonic()
    database = f"{driver.database}_{proxy.transport.name.replace('-', '_')}"
    proxy.server.sql(f"create database {database}")
    try:
        Program(driver, proxy, database, cell).run()
    except Exception as error:  # A cell that could not be run has failed; the others go on.
        cell.state, cell.text, cell.detail = "failed", cell.text or "start", f"{cell.detail}{error!r}"
    finally:
        proxy.server.sql(f"drop database {database} with (force)")
    cell.seconds = round(time.monotonic() - began, 1)
    return cell


class Program:
    """A program's process, listened to and answered; `python/exercise.py` says how it speaks."""

    def __init__(self, driver, proxy, database, cell):
        self.driver, self.proxy, self.database, self.cell = driver, proxy, database, cell

    def start(self, port, output, errors):
        env = places.environment(PGHOST="localhost", PGPORT=str(port), PGDATABASE=self.database, **self.proxy.client,
                                 MATRIX_TOOLS=str(places.TOOLS))
        return subprocess.Popen([*map(str, self.driver.command)], stdin=subprocess.PIPE, stdout=output, stderr=errors,
                                env=env, text=True, start_new_session=True)

    def run(self):
        if self.proxy.transport.encrypted:
            self.look()
        with tempfile.TemporaryFile() as errors:
            process = self.start(self.proxy.port, subprocess.PIPE, errors)
            limit = threading.Timer(LIMIT, os.killpg, (process.pid, signal.SIGKILL))
            limit.start()
            try:
                self.listen(process)
                code = process.wait()
            finally:
                limit.cancel()
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                process.stdin.close()
            errors.seek(0)
            self.cell.detail += errors.read().decode(errors="replace")[-3000:]
        if code == 0 and self.cell.state == "ok":
            self.cell.text = ""
        else:
            self.cell.state = "failed"
            self.cell.text = self.cell.text or (self.cell.steps or ["start"])[-1]
            self.cell.detail += f"\nexit code {code}"

    def look(self):
        """What the driver sends first: it must not be believed that it encrypts as it was told to."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(LIMIT)
            process = self.start(listener.getsockname()[1], subprocess.DEVNULL, subprocess.DEVNULL)
            try:
                client, _ = listener.accept()
                with client:
                    client.settimeout(LIMIT)
                    first = client.recv(len(SSL_REQUEST), socket.MSG_WAITALL)
            finally:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                process.stdin.close()
        # A record of the type that carries a TLS handshake.
        as_told = first[:1] == b"\x16" if self.proxy.transport.direct else first == SSL_REQUEST
        if not as_told:
            raise RuntimeError(f"it begins with {first.hex()}")

    def listen(self, process):
        for line in process.stdout:
            word, _, rest = line.rstrip("\n").partition(" ")
            if word == "step":
                self.cell.steps.append(rest)
            elif word == "skip":
                self.cell.skipped.append(rest)
            elif word == "version":
                self.cell.driver_version = rest
            elif word == "hold":
                self.hold()
                process.stdin.write("opened\n")
                process.stdin.flush()
            elif word == "ok":
                self.cell.state = "ok"
            else:
                self.cell.detail += line

    def hold(self):
        """Holds the database until drained, a second more, and opens it."""
        time.sleep(0.3)
        problem = self.proxy.command("hold", self.database, "--for", "60s")
        time.sleep(HELD)
        problem = problem or self.proxy.command("open", self.database)
        if problem:
            raise RuntimeError(problem)
