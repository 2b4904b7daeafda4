"""An initiator put together from its parts, with limits that suit most services."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final, Generic
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tandem import sessions
from tandem.connecting import Connect, Connector
from tandem.errors import OutcomeUnknown, cause_of
from tandem.failpoints import Failpoints, NoFailpoints
from tandem.initiator.changes import Changes
from tandem.initiator.completion import Completions
from tandem.initiator.database import Database
from tandem.initiator.delivery import Delivery
from tandem.initiator.finishing import Finishing
from tandem.initiator.intent import Intents
from tandem.initiator.journal import Journal
from tandem.initiator.points import Points
from tandem.initiator.ports import (
    Answers,
    ChangeT,
    Deadlines,
    Decider,
    Locks,
    NoDeadlines,
    Plan,
)
from tandem.initiator.reconciler import Reconciler
from tandem.initiator.records import Backlog, OperationRecord
from tandem.initiator.schema import Schema
from tandem.initiator.subject import OpT, SubjectT
from tandem.initiator.wakeup import WakeUp
from tandem.operation import Outcome, State
from tandem.store import Store
from tandem.tasks import running

_CONNECTIONS: Final = 10
_CAREFUL_CONNECTIONS: Final = 4
_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long everything may take, in seconds."""

    request: float = 15.0
    """For one change, from its beginning, where the request brings no deadline of its own."""
    decider: float = 3.0
    """For one call of the decider; after that long a new operation is left to recovery."""
    lock_wait: float = 5.0
    """For the wait for the locks."""
    recovery_lock_wait: float = 0.5
    """For recovery's own wait for them: it has time, and requests have somebody waiting."""
    recovery_interval: float = 5.0
    """Between two looks of recovery that nobody has woken."""
    backoff: float = 1.0
    """The first pause between two attempts at one operation; it doubles."""


class Unobserved:
    """Counts and watches nothing; see ``ports.Observer`` and ``ports.RecoveryObserver``."""

    def finished(self, kind: str, outcome: Outcome, /) -> None:
        """Do nothing."""

    def handed_over(self, kind: str, /) -> None:
        """Do nothing."""

    def helped(self, kind: str, /) -> None:
        """Do nothing."""

    def replayed(self) -> None:
        """Do nothing."""

    @contextmanager
    def attempt(self, op_id: UUID, *, attempts: int, traceparent: str | None) -> Iterator[None]:  # noqa: ARG002
        """Do nothing around it."""
        yield

    def recovery(self, result: str, error: Exception | None = None, /) -> None:
        """Do nothing."""

    def round(self, error: Exception | None, /) -> None:
        """Do nothing."""

    def backlog(self, backlog: Backlog, /) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Initiator(Generic[ChangeT, OpT, SubjectT]):
    """What endpoints call, and what goes on by itself."""

    changes: Changes[ChangeT, OpT, SubjectT]
    finishing: Finishing[OpT, SubjectT]
    reconciler: Reconciler[OpT, SubjectT]
    wake_up: WakeUp
    database: Database[OpT, SubjectT]
    recovery_engine: AsyncEngine
    """Connections of its own, so that recovery goes on when requests use up theirs."""
    limits: Limits

    async def cancel(self, op_id: UUID) -> OperationRecord[OpT] | None:
        """Ask for an operation never to be applied, and return what stands, None if it is unknown.

        It may be committed: whoever is recorded first wins. Where nobody can tell now it is pending
        still, and recovery brings it to its end.
        """
        journal, store = self.database.journal, self.database.store
        record = await journal.operation(store, op_id)
        if record is None or record.state is not State.PENDING:
            return record
        try:
            await self.finishing.cancel(record.operation, timeout_seconds=self.limits.decider)
        except OutcomeUnknown as error:
            _log.info("not_cancelled_yet", operation_id=str(op_id), error=cause_of(error))
        return await journal.operation(store, op_id)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Finish what is left pending for as long as the body runs, and then disconnect."""
        try:
            async with running((self.reconciler, self.wake_up)):
                yield
        finally:
            await self.database.store.close()
            for engine in (self.database.engine, self.recovery_engine):
                await engine.dispose()


def assemble(
    schema: Schema[OpT, SubjectT],
    *,
    database_url: str,
    plan: Plan[ChangeT, SubjectT, OpT],
    answers: Answers[ChangeT, OpT, SubjectT],
    decider: Decider[OpT],
    locks: Locks,
    points: Points,
    failpoints: Failpoints | None = None,
    deadlines: Deadlines | None = None,
    observer: Unobserved | None = None,
    limits: Limits | None = None,
) -> Initiator[ChangeT, OpT, SubjectT]:
    """Return an initiator; nothing is connected to yet.

    Args:
        schema: its tables.
        database_url: its database, ``postgresql://...``.
        plan: what a change means for a subject.
        answers: how changes are answered.
        decider: the service that decides.
        locks: the locks on subjects.
        points: the names of the failpoints.
        failpoints: where tests make it fail.
        deadlines: how long callers wait.
        observer: counts what happens.
        limits: how long everything may take.
    """
    connect = Connector().connect
    database = _database(schema, database_url, connect)
    recovery_engine = _engine(database_url, connect)
    hit, until = failpoints or NoFailpoints(), deadlines or NoDeadlines()
    seen, within = observer or Unobserved(), limits or Limits()
    delivery = Delivery(
        decider, points=points, failpoints=hit, deadlines=until, timeout_seconds=within.decider
    )
    completions = Completions(
        database,
        answers=answers,
        observer=seen,
        points=points,
        failpoints=hit,
        deadlines=until,
        timeout_seconds=within.request,
    )
    finishing = Finishing(
        decider=decider,
        locks=locks,
        delivery=delivery,
        completions=completions,
        ask_timeout_seconds=within.decider,
        lock_wait_seconds=within.recovery_lock_wait,
    )
    intents = Intents(
        database,
        plan=plan,
        points=points,
        failpoints=hit,
        deadlines=until,
        due_in_seconds=within.decider,
        timeout_seconds=within.request,
    )
    changes = Changes(
        locks=locks,
        intents=intents,
        decider=decider,
        delivery=delivery,
        completions=completions,
        finishing=finishing,
        answers=answers,
        observer=seen,
        points=points,
        failpoints=hit,
        deadlines=until,
        lock_wait_seconds=within.lock_wait,
        timeout_seconds=within.request,
    )
    wake_up = WakeUp(
        database_url,
        channel=database.schema.channel,
        application_name=f"{database.schema.noun}-wake-up",
        connect=connect,
    )
    reconciler = Reconciler(
        engine=recovery_engine,
        schema=database.schema,
        decider=decider,
        finishing=finishing,
        wake_up=wake_up,
        observer=seen,
        interval_seconds=within.recovery_interval,
        attempt_timeout_seconds=within.request,
        backoff_seconds=within.backoff,
    )
    return Initiator(changes, finishing, reconciler, wake_up, database, recovery_engine, within)


def _database(schema: Schema[OpT, SubjectT], url: str, connect: Connect) -> Database[OpT, SubjectT]:
    store = Store(url, parameters=sessions.parameters(), size=_CONNECTIONS, connect=connect)
    return Database(store, Journal(schema), _engine(url, connect))


def _engine(url: str, connect: Connect) -> AsyncEngine:
    return create_async_engine(
        url.replace("postgresql://", "postgresql+psycopg://", 1),
        pool_size=_CAREFUL_CONNECTIONS,
        pool_pre_ping=True,
        connect_args={**sessions.parameters(), "async_creator_fn": connect},
    )
