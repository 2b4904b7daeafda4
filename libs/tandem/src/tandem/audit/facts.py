"""What an audit knows about the two sides of one subject, and where they disagree; no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from tandem.operation import State


class Nouns(NamedTuple):
    """What a subject is called on either side."""

    here: str
    there: str


@dataclass(frozen=True, slots=True)
class Fact:
    """The side of a subject that both must agree on."""

    version: int
    status: str
    content: Mapping[str, Any]
    """What both have of its body."""

    def parts(self) -> dict[str, Any]:
        """Return all that is compared, by name."""
        return {"version": self.version, "status": self.status, **self.content}


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of a subject's history."""

    id: UUID
    kind: str
    state: State
    version: int
    created_at: datetime
    finished_at: datetime | None
    detail: str | None


class DifferenceKind(StrEnum):
    """How the two sides disagree."""

    MISSING_HERE = "missing_here"
    MISSING_THERE = "missing_there"
    THERE_BEHIND = "there_behind"
    THERE_AHEAD = "there_ahead"
    CONTENT = "content"
    HISTORY = "history"
    STUCK = "stuck"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two sides that disagree although nothing is on its way between them.

    Or, if it is ``STUCK``, between which something has been on its way for too long.
    """

    subject_id: UUID
    kind: DifferenceKind
    here: Fact | None
    there: Fact | None
    detail: str
    history: tuple[Step, ...] = ()


@dataclass(slots=True)
class Findings:
    """What an audit has found."""

    here: int = 0
    """How many subjects there are here."""
    there: int = 0
    pending: int = 0
    """Subjects whose sides differ because an operation is on its way, not for long."""
    differences: list[Difference] = field(default_factory=list)


def compare(
    subject_id: UUID, here: Fact | None, there: Fact | None, nouns: Nouns
) -> Difference | None:
    """Return how the two sides of a subject disagree, None if they do not."""
    if here == there:
        return None
    kind, detail = _describe(here, there, nouns)
    return Difference(subject_id=subject_id, kind=kind, here=here, there=there, detail=detail)


def _describe(here: Fact | None, there: Fact | None, nouns: Nouns) -> tuple[DifferenceKind, str]:
    if here is None:
        return DifferenceKind.MISSING_HERE, f"{nouns.there} without {nouns.here}"
    if there is None:
        return DifferenceKind.MISSING_THERE, f"{nouns.here} without {nouns.there}"
    if there.version < here.version:
        kind = DifferenceKind.THERE_BEHIND
    elif there.version > here.version:
        kind = DifferenceKind.THERE_AHEAD
    else:
        kind = DifferenceKind.CONTENT
    theirs = there.parts()
    parts = [
        f"{name} {ours} in the {nouns.here}, {theirs[name]} in the {nouns.there}"
        for name, ours in here.parts().items()
        if ours != theirs[name]
    ]
    return kind, "; ".join(parts)
