"""What is changed, and by what: the little that the initiator knows of both; no I/O."""

from typing import Protocol, TypeVar
from uuid import UUID


class Operation(Protocol):
    """One change of one subject, carried by its full resulting body.

    With the whole body in it, finishing an operation needs nothing that was read before it began.
    """

    @property
    def id(self) -> UUID:
        """Its id."""
        ...

    @property
    def subject_id(self) -> UUID:
        """What it changes."""
        ...

    @property
    def kind(self) -> str:
        """What it does to it: a value of ``operation.Kind``."""
        ...

    @property
    def version(self) -> int:
        """The version that it makes, of the one before."""
        ...


class Subject(Protocol):
    """What is changed, at its last committed version; version 0 is a creation not committed yet."""

    @property
    def version(self) -> int:
        """How many operations it has taken."""
        ...

    @property
    def pending_op(self) -> UUID | None:
        """The operation that is on its way."""
        ...


OpT = TypeVar("OpT", bound=Operation)
SubjectT = TypeVar("SubjectT", bound=Subject)
