"""What an audit makes of two sides."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tandem.audit.comparison import Comparison
from tandem.audit.facts import DifferenceKind, Fact, Nouns, Step
from tandem.operation import Outcome, State

TICKET, OTHER = UUID(int=1), UUID(int=2)
HOUR = timedelta(hours=1)


@dataclass
class Side:
    """Either side in memory."""

    facts: dict[UUID, Fact] = field(default_factory=dict)
    steps: dict[UUID, list[Step]] = field(default_factory=dict)
    recorded: dict[UUID, Outcome] = field(default_factory=dict)

    async def all(self) -> AsyncIterator[tuple[UUID, Fact]]:
        for each in self.facts.items():
            yield each

    async def one(self, subject_id: UUID, /) -> Fact | None:
        return self.facts.get(subject_id)

    async def pending(self) -> AsyncIterator[tuple[UUID, Step]]:
        for subject_id, steps in self.steps.items():
            for step in steps:
                if step.state is State.PENDING:
                    yield subject_id, step

    async def history(self, subject_id: UUID, /) -> tuple[Step, ...]:
        return tuple(self.steps.get(subject_id, ()))

    async def outcomes(self, subject_id: UUID, op_ids: list[UUID], /) -> dict[UUID, Outcome]:
        return {each: self.recorded[each] for each in op_ids if each in self.recorded}


def fact(version: int, holder: str = "Ada") -> Fact:
    return Fact(version, "taken", {"holder": holder})


def step(state: State, *, age: timedelta = timedelta(0)) -> Step:
    return Step(UUID(int=9), "update", state, 2, datetime.now(UTC) - age, None, None)


def comparison(here: Side, there: Side, *, histories: bool = False) -> Comparison:
    return Comparison(
        here,
        there,
        nouns=Nouns("ticket", "seat"),
        outcomes=there if histories else None,
        pending_at_most=HOUR,
    )


@pytest.mark.parametrize(
    ("here", "there", "kind", "detail"),
    [
        (fact(2), None, DifferenceKind.MISSING_THERE, "ticket without seat"),
        (None, fact(2), DifferenceKind.MISSING_HERE, "seat without ticket"),
        (fact(3), fact(2), DifferenceKind.THERE_BEHIND, "version 3 in the ticket, 2 in the seat"),
        (fact(2), fact(3), DifferenceKind.THERE_AHEAD, "version 2 in the ticket, 3 in the seat"),
        (
            fact(2),
            fact(2, "Grace"),
            DifferenceKind.CONTENT,
            "holder Ada in the ticket, Grace in the seat",
        ),
    ],
)
async def test_two_sides_that_differ_are_found_and_told_apart(
    here: Fact | None, there: Fact | None, kind: DifferenceKind, detail: str
) -> None:
    sides = [
        Side({OTHER: fact(1), **({} if each is None else {TICKET: each})}) for each in (here, there)
    ]
    found = await comparison(*sides).run()
    assert [(each.subject_id, each.kind, each.detail) for each in found.differences] == [
        (TICKET, kind, detail)
    ]


async def test_an_operation_that_is_pending_for_too_long_is_a_difference_by_itself() -> None:
    here = Side({TICKET: fact(1)}, {TICKET: [step(State.PENDING, age=2 * HOUR)]})
    found = await comparison(here, Side({TICKET: fact(1)})).run()
    assert [each.kind for each in found.differences] == [DifferenceKind.STUCK]


async def test_equal_sides_whose_operations_ended_otherwise_differ_in_their_histories() -> None:
    here = Side({TICKET: fact(2)}, {TICKET: [step(State.COMMITTED)]})
    there = Side({TICKET: fact(2)}, recorded={UUID(int=9): Outcome.ABORTED})
    assert (await comparison(here, there).run()).differences == []
    found = await comparison(here, there, histories=True).run()
    assert [each.kind for each in found.differences] == [DifferenceKind.HISTORY]


class Arriving(Side):
    """A side that follows a moment after it was looked at."""

    async def one(self, subject_id: UUID, /) -> Fact | None:
        before = self.facts.get(subject_id)
        self.facts[subject_id] = fact(2)
        return before


async def test_what_is_on_its_way_is_no_difference() -> None:
    here = Arriving({TICKET: fact(1)}, {TICKET: [step(State.PENDING)]})
    found = await comparison(here, Side({TICKET: fact(2)})).run()
    assert (found.differences, found.pending) == ([], 0)
