"""The rows: which program runs, and where it cannot."""

import glob
from dataclasses import dataclass
from typing import Callable

from . import places

PYTHON, NODE = places.MATRIX / "python", places.NODE
NO_DIRECT = "the driver has no direct TLS"


@dataclass(frozen=True)
class Driver:
    """A row. `impossible` says why a cell cannot be, or gives nothing."""

    name: str
    command: list
    impossible: Callable = lambda transport, version: None

    @property
    def database(self):
        return "".join(letter if letter.isalnum() else "_" for letter in self.name.lower())


def no_direct(why=NO_DIRECT):
    return lambda transport, version: why if transport.direct else None


def tool_of_15(kind):
    """Debian's programs of Postgres 15: their libpq has no direct TLS, and some serve 15 alone."""

    def impossible(transport, version):
        if transport.direct:
            return "libpq 15 has no direct TLS"
        if version > 15 and kind != "any":
            return "the program of 15 refuses newer servers, and npm's package of those has none"
        return None

    return impossible


def python(program, *arguments):
    return [places.PYTHON, PYTHON / program, *arguments]


def bundled_libpq():
    """The libpq that psycopg's wheel brings along, with the libraries it needs beside it."""
    found = glob.glob(str(places.PYTHON.parent.parent / "lib/python3*/site-packages/psycopg_binary.libs/libpq-*"))
    return found[0] if found else "libpq.so.5"


def rows():
    tool = PYTHON / "tools.py"
    return [
        Driver("psql", [*python(tool), "psql"], tool_of_15("any")),
        Driver("libpq", python("libpq.py"), tool_of_15("any")),
        Driver("libpq of psycopg", python("libpq.py", bundled_libpq())),
        Driver("psycopg 3", python("psycopg3.py")),
        Driver("psycopg2", python("psycopg2_.py")),
        Driver("asyncpg", python("asyncpg_.py")),
        Driver("pg8000", python("pg8000_.py"), no_direct()),
        Driver("SQLAlchemy, psycopg", python("sqlalchemy_.py", "psycopg")),
        Driver("SQLAlchemy, asyncpg", python("sqlalchemy_.py", "asyncpg")),
        Driver("node-postgres", ["node", NODE / "pg.mjs"]),
        Driver("postgres.js", ["node", NODE / "postgres.mjs"]),
        Driver("tokio-postgres", [places.RUST, "tokio-postgres"]),
        Driver("sqlx", [places.RUST, "sqlx"], no_direct()),
        Driver("pgbench", [*python(tool), "pgbench"], tool_of_15("any")),
        Driver("pg_dump, pg_restore", [*python(tool), "pg_dump"], tool_of_15("own")),
        Driver("pg_basebackup", [*python(tool), "pg_basebackup"], tool_of_15("own")),
        Driver("pg_receivewal", [*python(tool), "pg_receivewal"], tool_of_15("own")),
        Driver("pg_recvlogical", [*python(tool), "pg_recvlogical"], tool_of_15("any")),
    ]
