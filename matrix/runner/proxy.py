"""A pgdrain in front of a server, configured as one column of the matrix says."""

import json
import subprocess
import time
import tomllib

from . import places

# What a column does not set itself. Clients speak to `localhost`, for which the certificates are.
DEFAULTS = {"listen": 'listen = ["127.0.0.1:0"]', "options": ""}
CONFIGURATION = """\
{listen}
state_dir = "{directory}/state"

[admin]
listen = "127.0.0.1:0"

[upstream]
url = "postgres://postgres@localhost:{port}{options}"

{more}
"""


class Transport:
    """A column: what pgdrain is told (`pgdrain` and its parts) and what clients are told (`client`)."""

    def __init__(self, file):
        with open(file, "rb") as text:
            read = tomllib.load(text)
        self.name = file.stem.split("-", 1)[1]
        self.title, self.about, self.client = read["title"], read["about"], read["client"]
        self.pgdrain = DEFAULTS | {"more": ""} | read.get("pgdrain", {})
        self.direct = self.client.get("PGSSLNEGOTIATION") == "direct"
        self.encrypted = self.client["PGSSLMODE"] != "disable"


def transports():
    return [Transport(file) for file in sorted((places.MATRIX / "transports").glob("*.toml"))]


class Proxy:
    """Runs from creation to `stop`."""

    def __init__(self, transport, server, directory, certificates):
        self.transport, self.server, self.directory = transport, server, directory
        directory.mkdir()
        fill = {"directory": directory, "certificates": certificates, "port": server.port,
                "negotiation": "&sslnegotiation=direct" if server.version >= 17 else ""}
        if "{users}" in transport.pgdrain["more"]:
            fill["users"] = directory / "users.txt"
            fill["users"].write_text(users_of(server))
            fill["users"].chmod(0o600)
        parts = {name: part.format(**fill) for name, part in transport.pgdrain.items()}
        (directory / "pgdrain.toml").write_text(CONFIGURATION.format(**fill, **parts))
        self.client = {name: value.format(**fill) for name, value in transport.client.items()}
        self.log = directory / "log"
        with open(self.log, "wb") as log:
            self.process = places.start([places.PGDRAIN, "serve", "--config", directory / "pgdrain.toml"], log)
        self.wait()

    def wait(self):
        deadline, file = time.monotonic() + 30, self.directory / "state" / "endpoints.json"
        while True:
            try:
                endpoints = json.loads(file.read_text())
                break
            except (FileNotFoundError, json.JSONDecodeError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{self.transport.title}: {self.log.read_text()[-2000:]}") from None
                time.sleep(0.02)
        self.port = int(endpoints["listen"][0].rsplit(":", 1)[1])
        self.admin = f"http://{endpoints['admin']}"

    def command(self, *arguments):
        """A control command; gives what went wrong, if anything did."""
        ran = subprocess.run([places.PGDRAIN, *arguments, "--admin", self.admin], capture_output=True, text=True,
                             env=places.environment())
        return None if ran.returncode == 0 else f"{' '.join(arguments)}: {(ran.stdout + ran.stderr)[-600:]}"

    def stop(self):
        places.stop(self.process)


def users_of(server):
    """A users file with the verifier that the server itself has."""
    verifier = server.sql("select rolpassword from pg_authid where rolname = 'secret'")
    return f'"secret" "{verifier}"\n'
