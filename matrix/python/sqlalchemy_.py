"""SQLAlchemy with its pool and its ORM, over psycopg 3 or (first argument) over asyncpg."""

import asyncio
import sys

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext import asyncio as sa_async

from exercise import *  # Steps read as a list.

OVER = sys.argv[1]


class Base(orm.DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    body: orm.Mapped[str | None] = orm.mapped_column(unique=True)


class Counter(Base):
    __tablename__ = "counters"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    n: orm.Mapped[int]


def engine(**more):
    url = sa.URL.create(f"postgresql+{OVER}", USER, PASSWORD, HOST, PORT, DATABASE)
    if OVER == "asyncpg":
        more["connect_args"] = {"ssl": "verify-full" if ROOT else "disable"}
    return sa_async.create_async_engine(url, **more)


async def sessions(db):
    async with db.begin() as conn:
        await conn.run_sync(Base.metadata.create_all)
    step("commit and rollback")
    async with sa_async.AsyncSession(db) as session, session.begin():
        session.add_all(Note(body=word) for word in WORDS)
    async with sa_async.AsyncSession(db) as session:
        session.add(Note(body="lost"))
        await session.flush()
        await session.rollback()
        equal(await session.scalar(sa.select(sa.func.count()).select_from(Note)), len(WORDS))
        step("parameters")
        for word in WORDS:
            found = await session.scalar(sa.select(Note).where(Note.body.is_not_distinct_from(word)))
            equal(found.body, word)
        step("error in a transaction")
        try:
            async with session.begin_nested():
                session.add(Note(body="plain"))
        except sa.exc.IntegrityError as error:
            equal(code_of(error), "23505")
        session.add(Note(body="after the savepoint"))
        await session.commit()


async def bulk(db):
    async with db.connect() as conn:
        step("insert many values")
        await conn.execute(sa.insert(Note), [{"body": f"row {number}"} for number in range(5000)])
        await conn.commit()
        step("cursor")
        count = 0
        async for _ in await conn.stream(sa.select(Note.id), execution_options={"yield_per": 777}):
            count += 1
        equal(count, 5000 + len(WORDS) + 1)
        step("large values")
        large = bytes(range(256)) * (LARGE // 256)
        equal(await conn.scalar(sa.select(sa.cast(large, sa.LargeBinary))), large)
        await conn.commit()
        step("isolation levels")
        await conn.execution_options(isolation_level="SERIALIZABLE")
        equal(await conn.scalar(sa.text("show transaction_isolation")), "serializable")
        await conn.rollback()
        await conn.execution_options(isolation_level="AUTOCOMMIT")
        equal(await conn.scalar(sa.text("select 1")), 1)


async def many(db):
    step("many connections")

    async def one(number):
        async with db.connect() as conn:
            equal(await conn.scalar(sa.text("select cast(:a as int)"), {"a": number}), number)

    # More than the pool has: some wait for a connection that another gives back.
    await asyncio.gather(*(one(number) for number in range(4 * CONNECTIONS)))


async def hold(db):
    step("hold")
    async with sa_async.AsyncSession(db) as session, session.begin():
        session.add_all(Counter(id=number, n=0) for number in range(WRITERS))
    done = asyncio.Event()

    async def write(number):
        told, after = 0, 0
        while after < 2:
            async with sa_async.AsyncSession(db) as session, session.begin():
                counter = await session.get(Counter, number, with_for_update=True)
                counter.n += 1
            told += 1
            after += done.is_set()
            await asyncio.sleep(0.002)
        return told

    async def control():
        try:
            await asyncio.to_thread(opened)
        finally:
            done.set()
        return 0

    told = await asyncio.gather(*(write(number) for number in range(WRITERS)), control())
    async with db.connect() as conn:
        equal(await conn.scalar(sa.text(TOLD)), sum(told))


async def main():
    say(f"version {sa.__version__}")
    step("connect")
    db = engine(pool_size=CONNECTIONS, max_overflow=0, pool_pre_ping=True)
    await sessions(db)
    await bulk(db)
    await many(db)
    await hold(db)
    await db.dispose()
    say("ok")


asyncio.run(main())
