"""Where an audit reads from: services over whatever they speak, or their databases."""

from collections.abc import AsyncIterator
from typing import Protocol
from uuid import UUID

from tandem.audit.facts import Fact, Step
from tandem.operation import Outcome


class SourceUnavailable(Exception):
    """One side cannot be read, so nothing can be said."""


class Here(Protocol):
    """The subjects of the side that begins, at their last committed versions."""

    def all(self) -> AsyncIterator[tuple[UUID, Fact]]:
        """Iterate over all subjects, page by page."""
        ...

    async def one(self, subject_id: UUID, /) -> Fact | None:
        """Return one subject."""
        ...

    def pending(self) -> AsyncIterator[tuple[UUID, Step]]:
        """Iterate over all pending operations by the subject's id, page by page."""
        ...

    async def history(self, subject_id: UUID, /) -> tuple[Step, ...]:
        """Return a subject's operations, the oldest first."""
        ...


class There(Protocol):
    """What the side that decides has of them."""

    def all(self) -> AsyncIterator[tuple[UUID, Fact]]:
        """Iterate over everything by the subject's id, page by page."""
        ...

    async def one(self, subject_id: UUID, /) -> Fact | None:
        """Return what there is of one subject."""
        ...


class Outcomes(Protocol):
    """What the side that decides has recorded for operations."""

    async def outcomes(self, subject_id: UUID, op_ids: list[UUID], /) -> dict[UUID, Outcome]:
        """Return what is recorded for these operations of a subject."""
        ...
