"""The decision point: each operation is decided once, and what is recorded is the decision.

The usual path is one statement that changes the row and records the decision, or does nothing. If
it does nothing, and whenever it is not known whether an earlier try was committed, the careful path
records the operation first, under its id and under the version that it makes; then it changes the
row, only if it is at the version before and no newer lock has written. Its INSERT waits for
whichever commit of the same is on its way. So a commit whose acknowledgement was lost is found out
about by deciding once more.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from psycopg.errors import UniqueViolation

from tandem import commits
from tandem.commits import Attempt
from tandem.decider import proposal as records_of
from tandem.decider.proposal import Answers, Proposal
from tandem.decider.records import Identity, Record, Records
from tandem.errors import ChangedMeanwhile, StaleFence
from tandem.failpoints import Failpoints
from tandem.operation import STATUSES, Kind, Outcome, Refusal
from tandem.store import Row, Session, Store

PATIENCE_SECONDS: Final = 10.0
"""How long after its deadline a request waits for the end of its commit."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What stands under an operation's id."""

    record: Record
    new: bool
    """Whether it was recorded just now."""


class Observer(Protocol):
    """Counts what happens."""

    def recorded(self, kind: Kind, outcome: Outcome) -> None:
        """Count an operation that was decided now."""
        ...

    def fence_rejected(self) -> None:
        """Count a write that came with an older lock than the last one."""
        ...


class Unobserved:
    """Counts nothing; see ``Observer``."""

    def recorded(self, kind: Kind, outcome: Outcome) -> None:
        """Do nothing."""

    def fence_rejected(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Points:
    """The names of the failpoints around a decision."""

    before: str
    after: str
    before_abort: str
    after_abort: str

    @classmethod
    def of(cls, service: str) -> "Points":
        """Return the points of a service, ``<service>.<point>`` each."""
        return cls(
            before=f"{service}.before_decision",
            after=f"{service}.after_decision",
            before_abort=f"{service}.before_abort",
            after_abort=f"{service}.after_abort",
        )

    def names(self) -> tuple[str, ...]:
        """Return all names."""
        return self.before, self.after, self.before_abort, self.after_abort


class DecisionPoint:
    """Decides operations in the decider's database.

    Args:
        store: the database.
        records: its statements.
        answers: how decisions are answered.
        observer: counts what is decided.
        failpoints: where tests make it fail.
        points: their names.
        clock: the present time.
        patience_seconds: how long after its deadline a request waits for the end of its commit.
    """

    def __init__(
        self,
        store: Store,
        records: Records,
        *,
        answers: Answers,
        observer: Observer,
        failpoints: Failpoints,
        points: Points,
        clock: Callable[[], datetime],
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._store = store
        self._records = records
        self._answers = answers
        self._observer = observer
        self._failpoints = failpoints
        self._points = points
        self._clock = clock
        self._patience_seconds = patience_seconds

    async def decide(self, proposal: Proposal, *, fence: int, deadline_seconds: float) -> Decision:
        """Apply a change, or record why that is impossible, or find it decided already.

        Args:
            proposal: what to do.
            fence: the fence of the caller's lock.
            deadline_seconds: from now, how long to wait as long as nothing was sent that writes.

        Raises:
            StaleFence: a newer lock has written; nothing was recorded.
            ChangedMeanwhile: the row changed at this moment; nothing was recorded.
            GivenUp: the time ran out; nothing was recorded.
            CommitUnknown: the database did not say whether it was recorded.
        """

        async def work(attempt: Attempt) -> Decision:
            # After a lost acknowledgement only the careful path finds out what became of it.
            if not attempt.may_be_written:
                decision = await self._decide_at_once(proposal, attempt, fence=fence)
                if decision is not None:
                    return decision
            return await self._decide_carefully(proposal, attempt, fence=fence)

        decision = await self._known(work, deadline_seconds)
        await self._failpoints.hit(self._points.after)
        return decision

    async def refuse(
        self, proposal: Proposal, refusal: Refusal, *, deadline_seconds: float
    ) -> Decision:
        """Record that an operation can never take effect, unless it is decided already.

        Raises:
            ChangedMeanwhile, GivenUp, CommitUnknown: as for ``decide``.
        """
        rejected = records_of.rejected(proposal, self._answers, refusal, now=self._clock())
        return await self._first_writer(rejected, deadline_seconds)

    async def abort(self, identity: Identity, *, deadline_seconds: float) -> Decision:
        """Record a tombstone, unless the operation is decided already: the first writer wins.

        Raises:
            ChangedMeanwhile, GivenUp, CommitUnknown: as for ``decide``.
        """
        tombstone = records_of.aborted(identity, self._answers, now=self._clock())
        decision = await self._first_writer(
            tombstone, deadline_seconds, point=self._points.before_abort
        )
        await self._failpoints.hit(self._points.after_abort)
        return decision

    async def _decide_at_once(
        self, proposal: Proposal, attempt: Attempt, *, fence: int
    ) -> Decision | None:
        """Do it in one statement; None if that wrote nothing."""
        await self._failpoints.hit(self._points.before)
        now = self._clock()
        record = records_of.applied(proposal, self._answers, fence=fence, now=now)
        async with self._store.session() as session:
            attempt.commits_now()
            try:
                written = await self._records.decide_at_once(session, record, _values(proposal))
            except UniqueViolation:
                # Decided already, or another made this version: which, the careful path finds out.
                written = False
        if written:
            return Decision(record, new=True)
        attempt.proved_unwritten()
        return None

    async def _decide_carefully(
        self, proposal: Proposal, attempt: Attempt, *, fence: int
    ) -> Decision:
        async with self._store.transaction() as session:
            decision = await self._record(session, proposal, attempt, fence=fence)
            attempt.commits_now()
        return decision

    async def _record(
        self, session: Session, proposal: Proposal, attempt: Attempt, *, fence: int
    ) -> Decision:
        records, now = self._records, self._clock()
        applied = records_of.applied(proposal, self._answers, fence=fence, now=now)
        if not await records.record(session, applied):
            return await self._after_conflict(session, proposal, fence=fence, now=now)
        # The INSERT has waited for whichever transaction was recording the same: there is none.
        attempt.proved_unwritten()
        if await records.write(session, applied, _values(proposal)):
            return Decision(applied, new=True)
        refusal = await self._why(session, proposal, fence=fence)
        rejected = records_of.rejected(proposal, self._answers, refusal, fence=fence, now=now)
        # In the place of the row just written: the id stays taken, so that a second sender waits.
        await records.overrule(session, rejected)
        return Decision(rejected, new=True)

    async def _after_conflict(
        self, session: Session, proposal: Proposal, *, fence: int, now: datetime
    ) -> Decision:
        """Find out what an INSERT met: the operation itself, or another that made its version."""
        known = await self._records.find(session, proposal.identity)
        if known is not None:
            return Decision(known, new=False)
        refusal = await self._why(session, proposal, fence=fence)
        rejected = records_of.rejected(proposal, self._answers, refusal, fence=fence, now=now)
        return await self._record_or_find(session, rejected)

    async def _why(self, session: Session, proposal: Proposal, *, fence: int) -> Refusal:
        """Return why the row does not let the operation through, if that reason stays."""
        if proposal.kind is Kind.CREATE:
            return Refusal.EXISTS
        row = await self._records.subject(session, proposal.identity.subject_id)
        refusal = refusal_of(row, version=proposal.version, fence=fence)
        if refusal is Refusal.STALE_FENCE:
            # Not recorded: it is the lock that is wrong, and under a newer one it may be right.
            self._observer.fence_rejected()
            raise StaleFence(f"{proposal.identity.subject_id} was changed under a newer lock")
        if refusal is None or (refusal is Refusal.WRONG_VERSION and not proposal.demands_version):
            raise ChangedMeanwhile(f"{proposal.identity.subject_id} changed at this moment")
        return refusal

    async def _first_writer(
        self, record: Record, deadline_seconds: float, *, point: str | None = None
    ) -> Decision:
        async def work(attempt: Attempt) -> Decision:
            if point is not None:
                await self._failpoints.hit(point)
            async with self._store.transaction() as session:
                decision = await self._record_or_find(session, record)
                if decision.new:
                    attempt.proved_unwritten()
                attempt.commits_now()
            return decision

        return await self._known(work, deadline_seconds)

    async def _record_or_find(self, session: Session, record: Record) -> Decision:
        """Record a decision that makes no version, or return what its id stands for already."""
        if await self._records.record(session, record):
            return Decision(record, new=True)
        known = await self._records.find(session, record.identity)
        if known is None:
            raise ChangedMeanwhile("the operation was purged at this moment")
        return Decision(known, new=False)

    async def _known(
        self, work: Callable[[Attempt], Awaitable[Decision]], deadline_seconds: float
    ) -> Decision:
        decision = await commits.known(
            work,
            deadline_seconds=deadline_seconds,
            patience_seconds=self._patience_seconds,
            event="decision_commit_lost",
        )
        if decision.new:
            self._observer.recorded(decision.record.kind, decision.record.outcome)
        return decision


def refusal_of(row: Row | None, *, version: int, fence: int) -> Refusal | None:
    """Return why a row does not take the operation that makes ``version``, or None if it does."""
    if row is None:
        return Refusal.NOT_FOUND
    if row.status == STATUSES[Kind.DELETE]:
        return Refusal.DELETED
    if row.version != version - 1:
        return Refusal.WRONG_VERSION
    if row.fence > fence:
        return Refusal.STALE_FENCE
    return None


def _values(proposal: Proposal) -> dict[str, Any]:
    return {**proposal.values, "status": STATUSES[proposal.kind]}
