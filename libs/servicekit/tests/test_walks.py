"""A walk over pages shows every row that was begun before it, however late that was committed."""

import uuid
from collections.abc import AsyncIterator
from datetime import datetime

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Integer,
    MetaData,
    Table,
    Uuid,
    insert,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from devkit.servers import PostgresServer
from servicekit.database import driver_url
from servicekit.pagination import CursorCodec
from servicekit.problems import ValidationFailed
from servicekit.walks import Listing, Snapshot, Walk, rows_on, this_transaction

metadata = MetaData()
rows = Table(
    "rows",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("number", Integer),
    Column("created_at", DateTime(timezone=True), server_default=text("now()")),
    Column("made_by", BigInteger),
)
NEWEST_FIRST = Listing(rows.c.created_at, rows.c.id, rows.c.made_by)
OLDEST_FIRST = Listing(rows.c.created_at, rows.c.id, rows.c.made_by, newest_first=False)
CODEC = CursorCodec("rows")


@pytest.fixture
async def engine(postgres_server: PostgresServer) -> AsyncIterator[AsyncEngine]:
    name = f"walks_{uuid.uuid4().hex}"
    engine = create_async_engine(
        driver_url(postgres_server.create_database(name)), poolclass=NullPool
    )
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    yield engine
    await engine.dispose()
    postgres_server.drop_database(name)


async def add(connection: AsyncConnection, number: int) -> None:
    await connection.execute(
        insert(rows).values(id=uuid.uuid4(), number=number, made_by=this_transaction())
    )


async def committed(engine: AsyncEngine, *numbers: int) -> None:
    for number in numbers:
        async with engine.begin() as connection:
            await add(connection, number)


class Walker:
    """Goes on by cursors, as a client does."""

    def __init__(self, engine: AsyncEngine, listing: Listing, *, limit: int = 2) -> None:
        self._engine = engine
        self._listing = listing
        self._limit = limit
        self._cursor: str | None = None
        self.seen: list[int] = []
        self.ended = False

    async def step(self) -> None:
        after = None if self._cursor is None else Walk.decode(CODEC, self._cursor)
        async with self._engine.connect() as connection:
            page, walk = await self._listing.page(
                rows_on(connection), select(rows), after=after, limit=self._limit
            )
        self.seen += [row.number for row in page]
        self._cursor = None if walk is None else walk.encode(CODEC)
        self.ended = walk is None

    async def finish(self) -> list[int]:
        while not self.ended:
            await self.step()
        return self.seen


@pytest.mark.parametrize("listing", [NEWEST_FIRST, OLDEST_FIRST], ids=["newest", "oldest"])
@pytest.mark.parametrize("before", range(6))
@pytest.mark.parametrize("steps", [1, 2])
async def test_what_commits_late_comes_last_wherever_the_cursor_stands(
    engine: AsyncEngine, listing: Listing, before: int, steps: int
) -> None:
    await committed(engine, *range(before))
    walker = Walker(engine, listing)
    async with engine.begin() as late:
        await add(late, 99)
        await committed(engine, *range(before, 6))
        for _ in range(steps):
            await walker.step()
    await committed(engine, 7)
    seen = await walker.finish()
    order = list(range(6)) if listing is OLDEST_FIRST else list(range(6))[::-1]
    assert [number for number in seen if number not in {7, 99}] == order
    assert seen.count(99) == 1
    if listing is NEWEST_FIRST:
        assert 7 not in seen


async def test_what_commits_late_is_shown_also_if_it_is_more_than_a_page(
    engine: AsyncEngine,
) -> None:
    walker = Walker(engine, NEWEST_FIRST)
    async with engine.begin() as late:
        for number in range(100, 105):
            await add(late, number)
        await committed(engine, 0, 1, 2)
        await walker.step()
    assert sorted(await walker.finish()) == [0, 1, 2, 100, 101, 102, 103, 104]


async def test_a_creation_that_came_to_nothing_is_not_shown(engine: AsyncEngine) -> None:
    walker = Walker(engine, NEWEST_FIRST)
    async with engine.connect() as late:
        await add(late, 99)
        await committed(engine, 0, 1, 2)
        await walker.step()
        await late.rollback()
    assert await walker.finish() == [2, 1, 0]


async def test_rows_of_a_restored_dump_and_from_before_are_shown_like_all_others(
    engine: AsyncEngine,
) -> None:
    await committed(engine, *range(5))
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE rows SET made_by = 4000000000 WHERE number < 3"))
        await connection.execute(text("UPDATE rows SET made_by = NULL WHERE number = 4"))
    assert await Walker(engine, NEWEST_FIRST).finish() == [4, 3, 2, 1, 0]


def test_a_cursor_survives_its_way_to_the_client_with_many_transactions_going_on() -> None:
    moment = datetime.fromisoformat("2026-01-02T03:04:05.678901+00:00")
    first = 4_000_000_000
    snapshot = Snapshot(first, first + 5000, tuple(first + 7 * each for each in range(60)))
    walk = Walk(snapshot, moment, late=False, position=(moment, uuid.UUID(int=7)))
    for each in (walk, Walk(snapshot, moment, late=True, position=None)):
        cursor = each.encode(CODEC)
        assert Walk.decode(CODEC, cursor) == each
        assert len(cursor) < 2048
    crowded = Walk(Snapshot(1, 9999, tuple(range(1, 9999))), moment, late=True, position=None)
    assert len(crowded.encode(CODEC)) < 2048


@pytest.mark.parametrize(
    "parts",
    [
        ("m", "1:2:", "yesterday", "2026-01-01", str(uuid.UUID(int=1))),
        ("m", "1:2", "2026-01-01", "2026-01-01", str(uuid.UUID(int=1))),
        ("m", "1:x:", "2026-01-01", "2026-01-01", str(uuid.UUID(int=1))),
        ("m", "1:2:", "2026-01-01", "2026-01-01", "nobody"),
        ("m", "1:2:", "2026-01-01T00:00:00", "2026-01-01", str(uuid.UUID(int=1))),
        ("m", f"1:{2**70}:", "2026-01-01", "2026-01-01", str(uuid.UUID(int=1))),
        ("x", "1:2:", "2026-01-01", "2026-01-01", str(uuid.UUID(int=1))),
    ],
    ids=str,
)
def test_a_cursor_that_somebody_made_up_is_refused(parts: tuple[str, ...]) -> None:
    with pytest.raises(ValidationFailed):
        Walk.decode(CODEC, CODEC.encode(*parts))
