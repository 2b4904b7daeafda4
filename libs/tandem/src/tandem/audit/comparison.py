"""Find every subject whose two sides disagree, on a live system, without a lock.

First all of both sides is read, page by page, and compared. While that goes on things move, so what
seems to differ is only a suspect. Each suspect is then looked at by itself until its history stands
still around a look at both sides. An operation that is pending for longer than any trouble should
last is a finding by itself: nothing waits for it but a person.
"""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from tandem.audit.facts import Difference, DifferenceKind, Fact, Findings, Nouns, Step, compare
from tandem.audit.sources import Here, Outcomes, There
from tandem.operation import Outcome, State

_LOOKS: Final = 20
_PAUSE_SECONDS: Final = 0.25


class Comparison:
    """Compares two sides.

    Args:
        here: where the subjects are read.
        there: where the decider's are.
        nouns: what they are called in what is found.
        outcomes: where recorded outcomes are read; without it histories are not compared.
        pending_at_most: how long an operation may be on its way.
    """

    def __init__(
        self,
        here: Here,
        there: There,
        *,
        nouns: Nouns,
        outcomes: Outcomes | None = None,
        pending_at_most: timedelta,
    ) -> None:
        self._here = here
        self._there = there
        self._nouns = nouns
        self._outcomes = outcomes
        self._pending_at_most = pending_at_most

    async def run(self) -> Findings:
        """Compare everything.

        Raises:
            SourceUnavailable: one side cannot be read.
        """
        findings = Findings()
        for subject_id in await self._suspects(findings):
            await self._judge(subject_id, findings)
        return findings

    async def look(self, subject_id: UUID) -> Findings:
        """Compare the two sides of one subject."""
        findings = Findings()
        await self._judge(subject_id, findings)
        return findings

    async def _suspects(self, findings: Findings) -> list[UUID]:
        """Return what must be looked at by itself."""
        unmatched: dict[UUID, Fact] = {}
        everything: list[UUID] = []
        async for subject_id, fact in self._here.all():
            unmatched[subject_id] = fact
            findings.here += 1
            if self._outcomes is not None:
                everything.append(subject_id)
        suspects: dict[UUID, None] = {}
        async for subject_id, fact in self._there.all():
            findings.there += 1
            if unmatched.pop(subject_id, None) != fact:
                suspects[subject_id] = None
        suspects.update(dict.fromkeys(unmatched))
        suspects.update(dict.fromkeys(everything))
        async for subject_id, step in self._here.pending():
            if self._is_stuck(step):
                suspects[subject_id] = None
        return list(suspects)

    async def _judge(self, subject_id: UUID, findings: Findings) -> None:
        """Look until the history is the same before and after, or something is on its way."""
        moving = False
        for _ in range(_LOOKS):
            before = await self._here.history(subject_id)
            here = await self._here.one(subject_id)
            there = await self._there.one(subject_id)
            difference = (
                self._stuck(subject_id, here, there, before)
                or compare(subject_id, here, there, self._nouns)
                or await self._contradiction(subject_id, here, there, before)
            )
            if difference is None:
                return
            moving = self._is_moving(before) or before != await self._here.history(subject_id)
            if not moving:
                findings.differences.append(replace(difference, history=before))
                return
            await asyncio.sleep(_PAUSE_SECONDS)
        findings.pending += moving

    def _stuck(
        self, subject_id: UUID, here: Fact | None, there: Fact | None, history: tuple[Step, ...]
    ) -> Difference | None:
        """Return the operation that has been on its way for too long, if there is one."""
        for step in filter(self._is_stuck, history):
            why = f": {step.detail}" if step.detail else ""
            return Difference(
                subject_id=subject_id,
                kind=DifferenceKind.STUCK,
                here=here,
                there=there,
                detail=f"operation {step.id} is pending since {step.created_at.isoformat()}{why}",
            )
        return None

    def _is_stuck(self, step: Step) -> bool:
        if step.state is not State.PENDING:
            return False
        return datetime.now(UTC) - step.created_at > self._pending_at_most

    def _is_moving(self, history: tuple[Step, ...]) -> bool:
        return any(step.state is State.PENDING and not self._is_stuck(step) for step in history)

    async def _contradiction(
        self, subject_id: UUID, here: Fact | None, there: Fact | None, history: tuple[Step, ...]
    ) -> Difference | None:
        """Return where the operations' two ends disagree, although the two sides do not."""
        if self._outcomes is None:
            return None
        finished = [step for step in history if step.state is not State.PENDING]
        recorded = await self._outcomes.outcomes(subject_id, [step.id for step in finished])
        for step in finished:
            outcome = recorded.get(step.id)
            if (step.state is State.COMMITTED) != (outcome is Outcome.APPLIED):
                said = "nothing" if outcome is None else outcome.value
                return Difference(
                    subject_id=subject_id,
                    kind=DifferenceKind.HISTORY,
                    here=here,
                    there=there,
                    detail=f"operation {step.id} is {step.state.value} here, {said} there",
                )
        return None
