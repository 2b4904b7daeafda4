"""A write under an old fence changes nothing, whatever happens between thinking and writing."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    create_engine,
    func,
    insert,
    literal_column,
    null,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from devkit.servers import PostgresServer
from fencelock import StaleFence
from fencelock.contrib.sqlalchemy import fenced_update, fenced_upsert, require_written
from fencelock.guard import fenced_update as fenced_update_sql
from fencelock.guard import fenced_upsert as fenced_upsert_sql
from fencelock.guard import require_written as require_rows

PATIENCE_SECONDS = 30.0


class Model(DeclarativeBase):
    pass


class Order(Model):
    __tablename__ = "fenced_order"

    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str]
    # The attribute has another name than the column on purpose.
    written_with: Mapped[int | None] = mapped_column("fence", BigInteger)


Write = Callable[[Connection, int, str, threading.Event], None]


@pytest.fixture
def engine(postgres_server: PostgresServer) -> Iterator[Engine]:
    made = create_engine(url(postgres_server))
    with made.begin() as connection:
        Model.metadata.drop_all(connection)
        Model.metadata.create_all(connection)
        connection.execute(insert(Order).values(id=1, state="new"))
    yield made
    with made.begin() as connection:
        Model.metadata.drop_all(connection)
    made.dispose()


def url(server: PostgresServer) -> str:
    return server.url().replace("postgresql://", "postgresql+psycopg://")


def row(engine: Engine) -> tuple[str, int | None]:
    with engine.connect() as connection:
        found = connection.execute(select(Order.state, Order.written_with)).one()
    return found[0], found[1]


def guarded(connection: Connection, fence: int, state: str, overtaken: threading.Event) -> None:
    """Think, be stopped for a while, and write in one guarded statement."""
    connection.execute(select(Order.written_with)).one()
    overtaken.wait(PATIENCE_SECONDS)
    statement = update(Order).where(Order.id == 1).values(state=state)
    require_written(connection.execute(fenced_update(statement, Order.written_with, fence)), fence)


def looks_first(connection: Connection, fence: int, state: str, overtaken: threading.Event) -> None:
    """The broken variant: compare the fence, then write."""
    kept = connection.execute(select(Order.written_with)).scalar_one()
    if kept is not None and kept > fence:
        raise StaleFence
    overtaken.wait(PATIENCE_SECONDS)
    connection.execute(update(Order).where(Order.id == 1).values(state=state, written_with=fence))


def check_overtaken(engine: Engine, write: Write) -> None:
    """A holder is stopped before it writes; its successor writes and commits meanwhile."""
    overtaken = threading.Event()
    refused: list[StaleFence] = []

    def late() -> None:
        with engine.begin() as connection:
            try:
                write(connection, 100, "late", overtaken)
            except StaleFence as error:
                refused.append(error)

    holder = threading.Thread(target=late)
    holder.start()
    with engine.begin() as connection:
        write(connection, 200, "successor", _set())
    overtaken.set()
    holder.join(PATIENCE_SECONDS)
    assert row(engine) == ("successor", 200), "the successor's write was overwritten"
    assert refused


def check_waiting_for_the_row(engine: Engine, write: Write) -> None:
    """The late write waits for the row's lock, which the successor's open transaction has."""
    refused: list[StaleFence] = []
    first = engine.connect()
    begun = first.begin()
    write(first, 200, "successor", _set())

    def late() -> None:
        with engine.begin() as connection:
            try:
                write(connection, 100, "late", _set())
            except StaleFence as error:
                refused.append(error)

    holder = threading.Thread(target=late)
    holder.start()
    _until_somebody_waits(engine)
    begun.commit()
    first.close()
    holder.join(PATIENCE_SECONDS)
    assert row(engine) == ("successor", 200), "the successor's write was overwritten"
    assert refused


def _set() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def _until_somebody_waits(engine: Engine) -> None:
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    for _ in range(3000):
        with engine.connect() as connection:
            if connection.execute(waiting).scalar_one():
                return
        threading.Event().wait(0.01)
    raise AssertionError("nobody waits for the row")


CHECKS = pytest.mark.parametrize("check", [check_overtaken, check_waiting_for_the_row])


@CHECKS
def test_a_late_write_is_refused(engine: Engine, check: Callable[[Engine, Write], None]) -> None:
    check(engine, guarded)


@CHECKS
def test_comparing_before_writing_is_caught(
    engine: Engine, check: Callable[[Engine, Write], None]
) -> None:
    with pytest.raises(AssertionError, match="overwritten"):
        check(engine, looks_first)


def test_the_same_lease_may_write_again_and_a_later_one_too(engine: Engine) -> None:
    with engine.begin() as connection:
        for fence, state in ((100, "a"), (100, "b"), (101, "c")):
            guarded(connection, fence, state, _set())
    assert row(engine) == ("c", 101)


def test_an_upsert_inserts_updates_and_refuses(engine: Engine) -> None:
    def upsert(session: Session, fence: int, state: str) -> None:
        statement = fenced_upsert(
            postgresql.insert(Order).values(id=2, state=state),
            Order.written_with,
            fence,
            index_elements=[Order.id],
        )
        require_written(session.execute(statement), fence)

    def kept(session: Session) -> tuple[str, int | None]:
        found = session.execute(select(Order.state, Order.written_with).where(Order.id == 2)).one()
        return found[0], found[1]

    with Session(engine) as session:
        upsert(session, 100, "a")
        upsert(session, 200, "b")
        with pytest.raises(StaleFence, match="fence 100"):
            upsert(session, 100, "late")
        assert kept(session) == ("b", 200)


THINGS = Table(
    "fenced_thing",
    MetaData(),
    Column("thing_id", Integer, key="id", primary_key=True),
    Column("thing_state", String, key="state"),
    Column("changed", String),
    Column("made_in", Integer, default=2026, onupdate=2027),
    Column("thing_fence", BigInteger, key="fence"),
)


@pytest.fixture
def things() -> Iterator[Connection]:
    """A row that was written with a value in each column, whose keys are not their names."""
    made = create_engine("sqlite://")
    THINGS.create(made)
    with made.connect() as connection:
        connection.execute(
            insert(THINGS).values(id=1, state="a", changed="then", made_in=1999, fence=100)
        )
        yield connection
    made.dispose()


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ({"state": "b"}, ("b", "then", 1999, 200)),
        ({"state": null()}, (None, "then", 1999, 200)),
        ({THINGS.c.state: literal_column("'b'")}, ("b", "then", 1999, 200)),
        ({"changed": func.upper("now")}, ("a", "NOW", 1999, 200)),
        ({"changed": bindparam("moment", "now")}, ("a", "now", 1999, 200)),
        ({"state": "b", "made_in": 5}, ("b", "then", 5, 200)),
        # The fence that counts is that of the lease.
        ({"state": "b", "fence": 900}, ("b", "then", 1999, 200)),
        ({"state": "b", "fence": None}, ("b", "then", 1999, 200)),
    ],
)
def test_an_upsert_writes_what_it_was_given_and_nothing_else(
    things: Connection, values: dict[Any, Any], kept: tuple[Any, ...]
) -> None:
    statement = sqlite.insert(THINGS).values({"id": 1, **values})
    for fence, rows in ((200, 1), (199, 0)):
        key = iter([THINGS.c.id])
        guarded = fenced_upsert(statement, THINGS.c.fence, fence, index_elements=key)  # type: ignore[arg-type]
        assert things.execute(guarded).rowcount == rows
    assert tuple(things.execute(select(THINGS)).one()) == (1, *kept)


def test_an_upsert_of_a_whole_row_has_the_fence_of_the_lease(things: Connection) -> None:
    statement = sqlite.insert(THINGS).values((1, "b", "now", 5, None))
    things.execute(fenced_upsert(statement, THINGS.c.fence, 200, index_elements=[THINGS.c.id]))
    assert tuple(things.execute(select(THINGS)).one()) == (1, "b", "now", 5, 200)


def test_an_update_has_the_fence_of_the_lease(things: Connection) -> None:
    statement = update(THINGS).where(THINGS.c.id == 1).values(state="b", fence=None)
    require_written(things.execute(fenced_update(statement, THINGS.c.fence, 200)), 200)
    assert things.execute(select(THINGS.c.fence)).scalar_one() == 200


async def test_it_serves_asyncio_alike(engine: Engine, postgres_server: PostgresServer) -> None:
    made = create_async_engine(url(postgres_server))
    statement = update(Order).where(Order.id == 1).values(state="shipped")
    async with made.begin() as connection:
        done = await connection.execute(fenced_update(statement, Order.written_with, 7))
        require_written(done, 7)
        stale = await connection.execute(fenced_update(statement, Order.written_with, 6))
        with pytest.raises(StaleFence):
            require_written(stale, 6)
    await made.dispose()
    assert row(engine) == ("shipped", 7)


def test_an_upsert_without_values_or_of_many_rows_is_refused() -> None:
    for statement in (
        postgresql.insert(Order),
        postgresql.insert(Order).values([{"id": 1, "state": "a"}, {"id": 2, "state": "b"}]),
    ):
        with pytest.raises(ValueError, match="one row"):
            fenced_upsert(statement, Order.written_with, 1, index_elements=["id"])


def test_plain_sql_on_postgres(engine: Engine, postgres_server: PostgresServer) -> None:
    with psycopg.connect(postgres_server.url()) as connection:
        check_plain(
            lambda sql, values: connection.execute(sql, values).rowcount,
            update_sql=fenced_update_sql("public.fenced_order", where=["id"], values=["state"]),
            upsert_sql=fenced_upsert_sql("public.fenced_order", key=["id"], values=["state"]),
        )


def test_plain_sql_on_sqlite() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE fenced_order (id INTEGER PRIMARY KEY, state, fence)")
    connection.execute("INSERT INTO fenced_order VALUES (1, 'new', NULL)")
    check_plain(
        lambda sql, values: connection.execute(sql, values).rowcount,
        update_sql=fenced_update_sql(
            "fenced_order", where=["id"], values=["state"], placeholders="named"
        ),
        upsert_sql=fenced_upsert_sql(
            "fenced_order", key=["id"], values=["state"], placeholders="named"
        ),
    )
    connection.close()


def check_plain(
    execute: Callable[[str, dict[str, Any]], int], *, update_sql: str, upsert_sql: str
) -> None:
    def write(sql: str, key: int, fence: int) -> int:
        return execute(sql, {"id": key, "state": "x", "fence": fence})

    assert write(update_sql, 1, 100) == 1
    assert write(update_sql, 1, 99) == 0
    assert write(upsert_sql, 1, 99) == 0
    assert write(upsert_sql, 1, 101) == 1
    assert write(upsert_sql, 2, 100) == 1
    assert write(upsert_sql, 2, 99) == 0
    with pytest.raises(StaleFence):
        require_rows(0, 99)


@pytest.mark.parametrize(
    ("table", "where", "values"),
    [
        ('orders"; DROP TABLE orders; --', ["id"], ["state"]),
        ("orders", ["id = 1 OR 1"], ["state"]),
        ("orders", [], ["state"]),
        ("orders", ["id"], ["id"]),
        ("orders", ["id"], ["fence"]),
        ("", ["id"], ["state"]),
    ],
)
def test_names_that_are_no_identifiers_are_refused(
    table: str, where: list[str], values: list[str]
) -> None:
    with pytest.raises(ValueError, match=r"identif|twice"):
        fenced_update_sql(table, where=where, values=values)
    with pytest.raises(ValueError, match=r"identif|twice"):
        fenced_upsert_sql(table, key=where, values=values)


def test_columns_may_come_one_by_one() -> None:
    made = fenced_update_sql("t", where=iter(["id"]), values=(c for c in ["a", "b"]))  # type: ignore[arg-type]
    assert made == fenced_update_sql("t", where=["id"], values=["a", "b"])
    made = fenced_upsert_sql("t", key=iter(["id"]), values=(c for c in ["a", "b"]))  # type: ignore[arg-type]
    assert made == fenced_upsert_sql("t", key=["id"], values=["a", "b"])


def test_one_text_is_no_list_of_columns() -> None:
    for where, values in ((["id"], "state"), ("id", ["state"])):
        with pytest.raises(ValueError, match="a list of str"):
            fenced_update_sql("orders", where=where, values=values)
        with pytest.raises(ValueError, match="a list of str"):
            fenced_upsert_sql("orders", key=where, values=values)
    statement = postgresql.insert(Order).values(id=1, state="new")
    with pytest.raises(ValueError, match="a list of str"):
        fenced_upsert(statement, Order.written_with, 7, index_elements="id")


@pytest.mark.parametrize(
    ("where", "placeholders", "why"),
    [(["id"], "qmark", "pyformat or named"), ([7], "named", "identifier: 7")],
)
def test_what_cannot_be_written_is_said(where: Any, placeholders: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        fenced_update_sql("orders", where=where, values=["state"], placeholders=placeholders)


def test_a_driver_that_does_not_count_is_not_trusted() -> None:
    with pytest.raises(ValueError, match="how many rows"):
        require_rows(-1, 1)
