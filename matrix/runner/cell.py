"""One cell: a driver's program, in a database of its own, through one proxy."""

import os
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field

from . import places

LIMIT = 120
HELD = 1.0


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

    def run(self):
        env = places.environment(
            PGHOST="localhost", PGPORT=str(self.proxy.port), PGDATABASE=self.database, **self.proxy.client,
            MATRIX_TOOLS=str(places.TOOLS), MATRIX_SERVER=str(self.proxy.server.version))
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen([*map(str, self.driver.command)], stdin=subprocess.PIPE, env=env,
                                       stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True)
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
