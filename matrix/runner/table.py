"""The results as Markdown."""

HEAD = """\
# What was run through pgdrain

Written by `make matrix` from its runs; nothing here is filled in by hand. Each cell is one program in
`matrix/`, which does the same through its driver: connect (and be refused with a wrong password, where
there is one), simple and parametrised queries, prepared statements, commit and rollback, an error in a
transaction and what follows it, COPY in (also failing) and out, cursors, values of 5 MiB both ways,
pipelines, LISTEN/NOTIFY, cancel, twenty connections at once, and a `pgdrain hold` of a second under
four writers who count what was acknowledged. *ok* means that every answer was the expected one and that
no error was seen but those that were asked for. What a driver does not have is listed below. That a
driver encrypts as it was told is seen from the first bytes that it sends.

Drivers' own test-suites are in [`driver-suites.md`](driver-suites.md).
"""


def write(cells, rows, transports, servers, pgdrain):
    lines = [HEAD, f"pgdrain {pgdrain}. Columns:\n"]
    lines += [f"- *{transport.title}*: {transport.about}." for transport in transports]
    notes = []
    for version, exact in servers.items():
        lines += ["", f"## Postgres {exact or version}", ""]
        if exact is None:
            lines.append("Not run: its programs were not there (`make versions` fetches them by npm).")
            continue
        lines.append("| driver | version | " + " | ".join(transport.title for transport in transports) + " |")
        lines.append("| --- | --- |" + " --- |" * len(transports))
        for row in rows:
            mine = {cell.transport: cell for cell in cells if (cell.driver, cell.version) == (row.name, version)}
            seen = next((cell.driver_version for cell in mine.values() if cell.driver_version), "")
            texts = [text_of(mine.get(transport.name), notes) for transport in transports]
            lines.append(f"| {row.name} | {seen} | " + " | ".join(texts) + " |")
    lines += ["", "## Not possible, and why", ""]
    lines += [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    lines += ["", "## What a driver does not have, and so was not run", ""]
    skipped = sorted({f"- {skip}" for cell in cells for skip in cell.skipped})
    return "\n".join(lines + skipped) + "\n" + TAIL


def text_of(cell, notes):
    if cell is None:
        return ""
    if cell.state == "impossible":
        if cell.text not in notes:
            notes.append(cell.text)
        return f"not possible ({notes.index(cell.text) + 1})"
    return "ok" if cell.state == "ok" else f"**failed: {cell.text}**"


TAIL = """
## Not run at all

- JDBC, Npgsql, pgx, Ruby's pg and psqlODBC: their packages come from registries that `make matrix` does
  not reach, or need a runtime that it does not install.
- pg_dump, pg_restore, pg_basebackup and pg_receivewal of 16, 17 and 18: npm's package of Postgres holds
  the server alone.
- GSSAPI and Kerberos: pgdrain answers GSSENCRequest with `N`, and there is no realm here to log in to.
"""
