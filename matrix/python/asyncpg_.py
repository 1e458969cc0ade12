"""asyncpg, whose protocol is its own."""

import asyncio

import asyncpg

from exercise import *  # Steps read as a list.


def connect(**more):
    options = {"host": HOST, "port": PORT, "user": USER, "database": DATABASE, "password": PASSWORD}
    # The root certificate and the negotiation are in libpq's environment variables. It sends ALPN
    # with TLS contexts that it makes itself, as here.
    options["ssl"] = "verify-full" if ROOT else "disable"
    return asyncpg.connect(**options | more)


async def queries(conn):
    step("simple query")
    equal(await conn.execute("select 1; select 2"), "SELECT 1")
    step("parameters")
    for word in WORDS:
        row = await conn.fetchrow("select $1::text, $2::int[]", word, [1, None])
        equal(tuple(row), (word, [1, None]))
    equal(await conn.fetchval("select $1::bytea", bytes(range(256))), bytes(range(256)))
    step("prepared statements")
    prepared = await conn.prepare("select $1::int + 1")
    for number in range(20):
        equal(await prepared.fetchval(number), number + 1)


async def transactions(conn):
    step("commit and rollback")
    await conn.execute("create table notes (id int primary key, body text)")
    async with conn.transaction():
        await conn.execute("insert into notes values ($1, $2)", 1, "kept")
    lost = conn.transaction(isolation="serializable")
    await lost.start()
    await conn.execute("insert into notes values (2, 'lost')")
    await lost.rollback()
    equal([row["id"] for row in await conn.fetch("select id from notes")], [1])
    step("error in a transaction")
    outer = conn.transaction()
    await outer.start()
    await fails_async("22012", conn.fetchval("select 1 / $1::int", 0))
    await fails_async("25P02", conn.fetchval("select 1"))
    await outer.rollback()
    async with conn.transaction():
        try:
            async with conn.transaction():
                await conn.execute("insert into notes values (1, 'twice')")
        except asyncpg.UniqueViolationError:
            await conn.execute("insert into notes values (3, 'after the savepoint')")
    equal(await conn.fetchval("select count(*) from notes"), 2)


async def bulk(conn):
    rows = [(number, f"row {number}") for number in range(10, 10 + ROWS)]
    step("COPY in with an error")
    await fails_async("23505", conn.copy_records_to_table("notes", records=[*rows, (1, "twice")]))
    step("COPY in")
    equal(await conn.copy_records_to_table("notes", records=rows), f"COPY {ROWS}")
    step("COPY out")
    chunks = []

    async def keep(chunk):
        chunks.append(chunk)

    await conn.copy_from_query("select * from notes", output=keep, format="csv")
    equal(b"".join(chunks).count(b"\n"), ROWS + 2)
    step("cursor")
    async with conn.transaction():
        count = 0
        async for _ in conn.cursor("select id from notes", prefetch=777):
            count += 1
        equal(count, ROWS + 2)
    step("executemany")
    await conn.executemany("update notes set body = $2 where id = $1", rows[:2000])
    step("large values")
    large = bytes(range(256)) * (LARGE // 256)
    equal(await conn.fetchval("select $1::bytea", large), large)
    equal(await conn.fetchval("select repeat('é', $1)", LARGE), "é" * LARGE)


async def others(conn):
    skip("pipeline", "asyncpg has none beside executemany")
    step("LISTEN and NOTIFY")
    notes = asyncio.Queue()
    await conn.add_listener("news", lambda *note: notes.put_nowait(note))
    sender = await connect()
    await sender.execute("select pg_notify('news', 'ä payload')")
    note = await asyncio.wait_for(notes.get(), 10)
    equal(note[1:], (sender.get_server_pid(), "news", "ä payload"))
    await sender.close()
    step("cancel")
    # asyncpg cancels on the server what it gives up waiting for.
    try:
        await conn.fetchval("select pg_sleep(60)", timeout=0.3)
    except asyncio.TimeoutError:
        pass
    else:
        raise AssertionError("a sleep of a minute ended")
    equal(await conn.fetchval("select 1"), 1)
    equal(await conn.fetchval("select count(*) from pg_stat_activity where query = 'select pg_sleep(60)'"
                              " and state = 'active' and datname = current_database()"), 0)
    step("many connections")

    async def one(number):
        other = await connect()
        equal(await other.fetchval("select $1::int", number), number)
        await other.close()

    await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))


async def hold(conn):
    step("hold")
    await conn.execute(COUNTERS)
    await conn.execute(FILL_COUNTERS)
    done = asyncio.Event()

    async def write(number):
        other = await connect()
        told, after = 0, 0
        while after < 2:
            async with other.transaction():
                await other.fetchval("select n from counters where id = $1 for update", number)
                await other.execute(COUNT + "$1", number)
            told += 1
            after += done.is_set()
            await asyncio.sleep(0.002)
        await other.close()
        return told

    async def control():
        try:
            await asyncio.to_thread(opened)
        finally:
            done.set()
        return 0

    told = await asyncio.gather(*(write(number) for number in range(WRITERS)), control())
    equal(await conn.fetchval(TOLD), sum(told))


async def main():
    say(f"version {asyncpg.__version__}")
    if PASSWORD:
        step("wrong password")
        await fails_async("28P01", connect(password="wrong"))
    step("connect")
    conn = await connect()
    await queries(conn)
    await transactions(conn)
    await bulk(conn)
    await others(conn)
    await hold(conn)
    await conn.close()
    say("ok")


asyncio.run(main())
