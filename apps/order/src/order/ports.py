"""What the service needs from the outside, and one request to it."""

from dataclasses import dataclass
from uuid import UUID

from order.domain import Command, Kind, Operation, kind_of
from tandem.initiator.ports import Decider
from tandem.initiator.records import Key

Invoices = Decider[Operation]
"""The invoice service, which decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One request to change an order: what is asked for, and under which names."""

    command: Command
    op_id: UUID
    path: str
    key: Key | None
    client: str
    """Who asks, and so whose operation it becomes."""
    traceparent: str | None

    @property
    def subject_id(self) -> UUID:
        """What the protocol calls the order."""
        return self.command.order_id

    @property
    def kind(self) -> Kind:
        """The kind of operation that it becomes."""
        return kind_of(self.command)


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """An operation whose id was made here, and which is not recorded."""

    op_id: UUID
    may_come: bool
    """Whether it may still be recorded: a statement or a transaction may be on its way."""
