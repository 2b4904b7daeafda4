"""What a change means for an order, and what a refusal of it means for the client."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.exc import IntegrityError

from order import answers, failpoints
from order.database import OrderDatabase
from order.deadlines import RequestDeadlines
from order.domain import (
    Create,
    Delete,
    Operation,
    Order,
    Refusal,
    Update,
    UpdateFromTheFuture,
    plan_change,
    plan_creation,
)
from order.errors import CONSTRAINTS, answering, problem_of
from order.identifiers import recordable_until
from order.ports import Change
from servicekit.database import constraint_name
from servicekit.failpoints import Failpoints
from tandem.commits import Attempt
from tandem.errors import ProtocolViolated
from tandem.initiator import Intents
from tandem.initiator.ports import Answered, Intent
from tandem.initiator.records import Key
from tandem.operation import Answer

_SKEW: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Planning:
    """What a change means for an order; see ``tandem.initiator.ports.Plan``."""

    skew: timedelta
    """How far the clocks of clients may differ from the database's."""

    def __call__(
        self, order: Order | None, change: Change, /, *, now: datetime
    ) -> Operation | Answered:
        """Return the operation that carries out a change, or the answer to keep.

        Raises:
            Problem: the change is refused, and may not be so another time.
        """
        try:
            operation = self._operation(order, change, now=now)
        except Refusal as refusal:
            return Answered(_kept_refusal(refusal, change))
        return Answered(_already_so(order)) if operation is None else operation

    def _operation(self, order: Order | None, change: Change, *, now: datetime) -> Operation | None:
        match change.command:
            case Create() as command:
                return plan_creation(command, op_id=change.op_id, now=now)
            case Update() | Delete() as command:
                return plan_change(order, command, op_id=change.op_id, now=now, skew=self.skew)


class PostgresIntents(Intents[Change, Operation, Order]):
    """Records operations in the order database.

    Args:
        database: the order database.
        failpoints: where tests make it fail.
        due_in_seconds: how long recovery leaves a new operation to the request that made it.
        skew: how far the clocks of clients may differ from the database's.
        timeout_seconds: the longest time a request may take; later nothing is recorded.
    """

    def __init__(
        self,
        database: OrderDatabase,
        *,
        failpoints: Failpoints,
        due_in_seconds: float,
        skew: timedelta = _SKEW,
        timeout_seconds: float = 15.0,
    ) -> None:
        super().__init__(
            database,
            plan=Planning(skew),
            points=_POINTS,
            failpoints=failpoints,
            deadlines=RequestDeadlines(),
            due_in_seconds=due_in_seconds,
            timeout_seconds=timeout_seconds,
            until=recordable_until(timeout_seconds=timeout_seconds),
        )

    async def replay(self, key: Key) -> Answer | None:
        """Return the answer kept under a key, None if the key is new.

        Raises:
            Problem: there is none, and the request must not be done.
        """
        with answering():
            return await super().replay(key)

    async def record(
        self,
        change: Change,
        attempt: Attempt | None = None,
        *,
        told: Callable[[Intent[Operation]], None] = lambda _: None,
    ) -> Intent[Operation]:
        """Record the operation that carries out ``change``, unless the order does not admit it.

        Raises:
            Problem: the change is refused, or nothing was written for another reason.
            RecordUnknown: it cannot be told whether it is recorded.
        """
        with answering(), _constraints_answering():
            return await super().record(change, attempt, told=told)


_POINTS: Final = failpoints.POINTS


@contextmanager
def _constraints_answering() -> Iterator[None]:
    """Tell a client of the constraint that its change would violate."""
    try:
        yield
    except IntegrityError as error:
        make_problem = CONSTRAINTS.get(constraint_name(error) or "")
        if make_problem is None:
            raise
        raise make_problem() from error


def _kept_refusal(refusal: Refusal, change: Change) -> Answer:
    """Return the answer to keep for a change that the order does not admit.

    Raises:
        Problem: it is not kept.
    """
    problem = problem_of(refusal)
    if change.key is None:
        raise problem from refusal
    if isinstance(refusal, UpdateFromTheFuture):
        raise problem from refusal  # it will be past one day
    return answers.refused(problem, path=change.path)


def _already_so(order: Order | None) -> Answer:
    """Return the answer to a change whose wanted state is there."""
    if order is None:
        raise ProtocolViolated("nothing is never the wanted state")
    return answers.unchanged(order)
