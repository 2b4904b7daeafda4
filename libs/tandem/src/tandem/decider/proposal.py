"""What is to be decided, and how it will be answered; no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from tandem.decider.records import Identity, Record
from tandem.operation import NO_FENCE, Answer, Kind, Outcome, Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A change with the identity under which it is decided once."""

    identity: Identity
    request_hash: bytes
    """Tells a repetition from another request under the same key."""
    kind: Kind
    version: int
    """The version that it makes, of the one before."""
    values: Mapping[str, Any]
    """The columns that it writes: those of the body, and at a creation all that the service has."""
    demands_version: bool
    """The caller named the version; otherwise a change builds on whichever is there."""
    path: str
    """The path that the request named."""


class Answers(Protocol):
    """How decisions are answered; what is returned is kept and repeated byte for byte."""

    def applied(self, proposal: Proposal, *, fence: int, now: datetime) -> Answer:
        """Return the answer to a change that takes effect."""
        ...

    def rejected(self, proposal: Proposal, refusal: Refusal) -> Answer:
        """Return the answer to a change that was refused for a reason that will not go away."""
        ...

    def aborted(self, identity: Identity) -> Answer:
        """Return the answer to an operation that must never be applied."""
        ...


def applied(proposal: Proposal, answers: Answers, *, fence: int, now: datetime) -> Record:
    """Return the record of a change that takes effect."""
    answer = answers.applied(proposal, fence=fence, now=now)
    return _record(proposal, Outcome.APPLIED, answer, fence=fence, now=now)


def rejected(
    proposal: Proposal, answers: Answers, refusal: Refusal, *, fence: int = NO_FENCE, now: datetime
) -> Record:
    """Return the record of a change that can never take effect."""
    answer = answers.rejected(proposal, refusal)
    return _record(proposal, Outcome.REJECTED, answer, fence=fence, now=now)


def aborted(identity: Identity, answers: Answers, *, now: datetime) -> Record:
    """Return a tombstone."""
    return Record(
        identity=identity,
        request_hash=None,
        kind=Kind.ABORT,
        outcome=Outcome.ABORTED,
        version=None,
        fence=NO_FENCE,
        answer=answers.aborted(identity),
        created_at=now,
    )


def _record(
    proposal: Proposal, outcome: Outcome, answer: Answer, *, fence: int, now: datetime
) -> Record:
    return Record(
        identity=proposal.identity,
        request_hash=proposal.request_hash,
        kind=proposal.kind,
        outcome=outcome,
        version=proposal.version,
        fence=fence,
        answer=answer,
        created_at=now,
    )
