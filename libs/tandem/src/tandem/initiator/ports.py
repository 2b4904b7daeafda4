"""What the initiator needs from the service and from the outside."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from tandem.errors import keepable
from tandem.initiator.records import Backlog, Key
from tandem.initiator.subject import Operation, OpT, Subject
from tandem.operation import Answer, Outcome


@dataclass(frozen=True, slots=True)
class Decision:
    """What the decider has recorded for an operation, for good.

    Attributes:
        outcome: what it is.
        detail: the decider's words for it, cut to what can be kept.
    """

    outcome: Outcome
    detail: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", keepable(self.detail))


class Change(Protocol):
    """One request to change a subject: what is asked for, and under which names."""

    @property
    def op_id(self) -> UUID:
        """The id of the operation that it becomes."""
        ...

    @property
    def subject_id(self) -> UUID:
        """What is to be changed."""
        ...

    @property
    def kind(self) -> str:
        """What it does to the subject: a value of ``operation.Kind``."""
        ...

    @property
    def key(self) -> Key | None:
        """The client's own name for the request."""
        ...

    @property
    def client(self) -> str:
        """Who asks, and so whose operation it becomes."""
        ...

    @property
    def traceparent(self) -> str | None:
        """The trace that it belongs to."""
        ...


ChangeT = TypeVar("ChangeT", bound=Change)
_Change_contra = TypeVar("_Change_contra", bound=Change, contravariant=True)
_Op_contra = TypeVar("_Op_contra", bound=Operation, contravariant=True)
_Op_co = TypeVar("_Op_co", bound=Operation, covariant=True)
_Subject_contra = TypeVar("_Subject_contra", bound=Subject, contravariant=True)


class Lease(Protocol):
    """The locks of one subject, held."""

    def proof(self) -> str:
        """Return what shows the decider that they are held."""
        ...


class Locks(Protocol):
    """The locks on subjects, and on what the decider has of them."""

    def hold(
        self, subject_id: UUID, /, *, wait_seconds: float
    ) -> AbstractAsyncContextManager[Lease]:
        """Hold the locks of a subject inside the ``async with``.

        Raises:
            Locked: somebody else holds one, and did so for all of ``wait_seconds``.
            LocksUnavailable: they cannot be reached; none was taken.
            LeaseLost: they were lost while held; the body was cancelled.
        """
        ...


class Decider(Protocol[_Op_contra]):
    """The service that decides."""

    async def send(self, operation: _Op_contra, *, proof: str, timeout_seconds: float) -> Decision:
        """Ask it to apply an operation; asking twice is the same as asking once.

        Raises:
            OutcomeUnknown: it gave no recorded outcome.
        """
        ...

    async def recorded(self, operation: _Op_contra, *, timeout_seconds: float) -> Decision | None:
        """Return what it has recorded for an operation, None if nothing yet.

        What is recorded under the same id for another subject, version or kind is no decision.

        Raises:
            OutcomeUnknown: it did not say.
        """
        ...

    async def abort(self, operation: _Op_contra, *, timeout_seconds: float) -> Decision:
        """Ask it never to apply an operation; return what stands, which may be that it did.

        Raises:
            OutcomeUnknown: it did not say.
        """
        ...

    def permits(self, at_most: int) -> int:
        """Return how many calls are worth making now, without making any."""
        ...

    def require_available(self) -> None:
        """Return if it is worth asking.

        Raises:
            Exception: it failed several times in a row a moment ago; nothing was written.
        """
        ...


@dataclass(frozen=True, slots=True)
class Recorded(Generic[OpT]):
    """The operation is recorded as pending, or was before."""

    operation: OpT


@dataclass(frozen=True, slots=True)
class Answered:
    """The request has its answer without an operation: a replay, a refusal, or nothing to do."""

    response: Answer
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Blocked(Generic[OpT]):
    """Another operation of the subject is pending and has to be finished first."""

    pending: OpT


Intent = Recorded[OpT] | Answered | Blocked[OpT]


class Plan(Protocol[_Change_contra, _Subject_contra, _Op_co]):
    """What a change means for a subject; no I/O."""

    def __call__(
        self, subject: _Subject_contra | None, change: _Change_contra, /, *, now: datetime
    ) -> _Op_co | Answered:
        """Return the operation that carries out a change, or the answer to it if there is none.

        Such an answer is kept under the change's key, so that a repetition gets the same.

        Args:
            subject: it as it is, None if there is none, and for a creation.
            change: what is asked for.
            now: this moment, by the database's clock; at a creation, by this process's.

        Raises:
            Exception: the change is refused, and the refusal is not to be kept.
        """
        ...


class Answers(Protocol[_Change_contra, _Op_contra, _Subject_contra]):
    """How changes are answered; what is final is kept, and repeated byte for byte."""

    def committed(self, operation: _Op_contra, subject: _Subject_contra | None, /) -> Answer:
        """Return the answer to a change that both sides have.

        ``subject`` is the row that it made, None if the operation says all there is to say.
        """
        ...

    def dropped(self, operation: _Op_contra, decision: Decision, /) -> Answer:
        """Return the answer to a change that neither side has, nor will have."""
        ...

    def accepted(self, change: _Change_contra, /) -> Answer:
        """Return the answer to a change whose outcome is not known yet; never kept."""
        ...

    def out_of_time(self, change: _Change_contra, /) -> Answer:
        """Return the answer to a change of which nothing was written in time; never kept."""
        ...


class Deadlines(Protocol):
    """How long the caller waits."""

    def remaining_seconds(self, *, at_most_seconds: float) -> float:
        """Return the time left for the request that is being served, at least 0."""
        ...

    def commit_to(self, last_word: Callable[[], Answer], /, *, within_seconds: float) -> None:
        """Have the request cut off only after ``within_seconds``, and answered ``last_word`` then.

        Raises:
            Exception: the time has run out already; nothing must be begun any more.
        """
        ...


class NoDeadlines:
    """Requests that have the whole of each limit."""

    def remaining_seconds(self, *, at_most_seconds: float) -> float:
        """Return the limit itself."""
        return at_most_seconds

    def commit_to(self, last_word: Callable[[], Answer], /, *, within_seconds: float) -> None:
        """Do nothing: nobody cuts the request off."""


class Observer(Protocol):
    """Counts what becomes of changes."""

    def finished(self, kind: str, outcome: Outcome, /) -> None:
        """Count an operation that this process has finished."""
        ...

    def handed_over(self, kind: str, /) -> None:
        """Count a request whose outcome was not known when it was answered."""
        ...

    def helped(self, kind: str, /) -> None:
        """Count an operation that a request finished for somebody else."""
        ...

    def replayed(self) -> None:
        """Count an answer that was given before."""
        ...


class RecoveryObserver(Protocol):
    """Watches recovery."""

    def attempt(
        self, op_id: UUID, *, attempts: int, traceparent: str | None
    ) -> AbstractContextManager[None]:
        """Surround one attempt at one operation.

        Args:
            op_id: the operation.
            attempts: how many there were, with this one.
            traceparent: the trace of the request that began it.
        """
        ...

    def recovery(self, result: str, error: Exception | None = None, /) -> None:
        """Count the attempt that goes on: ``finished``, ``locked``, ``unknown`` or ``failed``."""
        ...

    def round(self, error: Exception | None, /) -> None:
        """Count one round, and what it died of."""
        ...

    def backlog(self, backlog: Backlog, /) -> None:
        """Show what is pending."""
        ...
