"""Make each failure happen in a pair of running services, wait until it heals, and judge.

How its services are started, made to fail and looked at is the pair's (``Stage``). What was
promised, and so what is judged, is the same for all: nothing stays pending, both sides are equal, a
change is done once, whoever asks again is answered the same, and an answer says what is true.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from queue import SimpleQueue
from typing import Final, Generic, Protocol, TypeVar

from tandem.operation import State

KINDS: Final = ("create", "update", "delete")
ACTIONS: Final = ("kill", "error", "stall", "drop")
"""The process is killed, an error is raised, the whole process stands still, no reply is sent."""
HEAL_SECONDS: Final = 60.0
ATTEMPTS: Final = 6
"""A slow machine may refuse a request before it gets to the point; then it is made again."""
POLL_SECONDS: Final = 0.05

_ACCEPTED: Final = 202
_NO_SUCCESS: Final = 300
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_SERVER_ERROR: Final = 500


@dataclass(frozen=True)
class Case:
    """One failure."""

    service: str
    point: str
    action: str
    kind: str
    """The kind of change in the middle of which it happens."""

    def __str__(self) -> str:
        return f"{self.point}={self.action} during {self.kind}"


def cases(
    service: str,
    points: Sequence[str],
    *,
    actions: Sequence[str] = ACTIONS,
    kinds: Sequence[str] = KINDS,
) -> list[Case]:
    """Return every failure of a service at these points."""
    return [
        Case(service, point, action, kind)
        for action, point, kind in product(actions, points, kinds)
    ]


@dataclass(frozen=True)
class Reply:
    """What a request was answered."""

    status: int
    body: bytes
    final: bool
    """Whether the same request is answered so for good."""


class Request(Protocol):
    """One change, under a key of its own."""

    @property
    def key(self) -> str:
        """The key."""
        ...


RequestT = TypeVar("RequestT", bound=Request)


class Stage(Protocol[RequestT]):
    """A pair of services with databases of their own; at least two processes begin changes."""

    @property
    def initiator(self) -> str:
        """What cases call the service that begins."""
        ...

    def prepare(self, kind: str) -> RequestT:
        """Return a change of this kind, of something that is there unless it is a creation."""
        ...

    def arm(self, case: Case) -> None:
        """Start the service so that it fails there.

        Of the service that begins, that is one of several processes, whose own recovery sleeps:
        what it leaves behind is for the others.
        """
        ...

    def disarm(self, case: Case) -> None:
        """Have everything work again."""
        ...

    def has_hit(self, case: Case) -> bool:
        """Tell whether it has failed there since it was armed."""
        ...

    def send(self, request: RequestT, case: Case | None = None, /) -> Reply | None:
        """Make a request of the process that fails in a case, or of one that does not.

        Returns:
            None if there was no answer.
        """
        ...

    def compete(self, request: RequestT) -> int | None:
        """Change the same subject otherwise, by a process that works; return the answer's status.

        None if the request is about nothing that is there yet.
        """
        ...

    def states(self, key: str) -> list[str]:
        """Return the states of the operations that a key has led to."""
        ...

    def pending(self) -> int:
        """Return how many operations are pending."""
        ...

    def differences(self) -> list[str]:
        """Return where the two sides disagree."""
        ...


@dataclass
class Result:
    """What one failure led to."""

    case: Case
    hit: bool
    first: int | None
    """Status of the first answer; None if there was none."""
    final: int
    """Status of the answer to the same request once everything was well again."""
    healed_seconds: float
    faults: list[str] = field(default_factory=list)


COMPETED: Final = frozenset({202, 200, 204, 404, 409, 422, 423, 503})
"""What may become of a change that meets one whose process stands still."""


class Lane(Generic[RequestT]):
    """One stage on which failures happen one after the other; lanes do not touch each other."""

    def __init__(self, stage: Stage[RequestT]) -> None:
        self._stage = stage

    def run(self, case: Case) -> Result:
        """Make one failure happen; once more if the request was refused before it got there."""
        result = self._once(case)
        for _ in range(ATTEMPTS - 1):
            if result.hit or result.faults:
                break
            result = self._once(case)
        return result

    def _once(self, case: Case) -> Result:
        stage = self._stage
        request = stage.prepare(case.kind)
        stage.arm(case)
        with self._competing(case, request) as faults:
            first = stage.send(request, case)
        hit = stage.has_hit(case)
        healing_since = time.monotonic()
        stage.disarm(case)
        faults += self._judge_first(request, first)
        faults += self._wait_healed()
        healed = time.monotonic() - healing_since
        final = self._repeat(request)
        faults += self._judge_final(request, first, final)
        return Result(
            case,
            hit=hit,
            first=None if first is None else first.status,
            final=0 if final is None else final.status,
            healed_seconds=healed,
            faults=faults,
        )

    @contextmanager
    def _competing(self, case: Case, request: RequestT) -> Iterator[list[str]]:
        """While a process stands still with the locks held, let another change the same."""
        faults: list[str] = []
        if case.action != "stall" or case.service != self._stage.initiator:
            yield faults
            return
        answered = threading.Event()

        def compete() -> int | None:
            if not within(HEAL_SECONDS, lambda: self._stage.has_hit(case) or answered.is_set()):
                return None
            return None if answered.is_set() else self._stage.compete(request)

        with ThreadPoolExecutor(1) as pool:
            competitor = pool.submit(compete)
            try:
                yield faults
            finally:
                answered.set()
            status = competitor.result()
        if status is not None and status not in COMPETED:
            faults.append(f"a competitor was answered {status}")

    def _judge_first(self, request: RequestT, first: Reply | None) -> list[str]:
        """The promises that the first answer made, checked at once."""
        if first is None or first.status in {_ACCEPTED, _CONFLICT}:
            return []
        states = self._stage.states(request.key)
        if first.status < _NO_SUCCESS and states != [State.COMMITTED]:
            return [f"answered {first.status} but {states}"]
        if first.status >= _SERVER_ERROR and states:
            return [f"answered {first.status} although recorded"]
        return []

    def _wait_healed(self) -> list[str]:
        if not within(HEAL_SECONDS, lambda: not self._stage.pending()):
            return [f"not healed: {self._stage.pending()} operations are pending"]
        return self._stage.differences()

    def _repeat(self, request: RequestT) -> Reply | None:
        """Send it again, with the same key, until there is a final answer."""
        answers: list[Reply] = []

        def answered() -> bool:
            answer = self._stage.send(request)
            answers.extend([] if answer is None else [answer])
            return answer is not None and answer.final

        return answers[-1] if within(HEAL_SECONDS, answered) else None

    def _judge_final(
        self, request: RequestT, first: Reply | None, final: Reply | None
    ) -> list[str]:
        if final is None:
            return ["no final answer"]
        faults = []
        if first is not None and first.final:
            if first != final:
                faults.append(f"answered {first.status}, then {final.status}")
        elif final.status == _NOT_FOUND:
            faults.append(f"finally answered {final.status}")
        effects = self._stage.states(request.key).count(State.COMMITTED)
        if effects != (final.status < _NO_SUCCESS):
            faults.append(f"answered {final.status} with {effects} effects")
        return faults + self._wait_healed()


def run_all(lanes: Sequence[Lane[RequestT]], wanted: Sequence[Case]) -> list[Result]:
    """Run cases, each in the next free lane."""
    free: SimpleQueue[Lane[RequestT]] = SimpleQueue()
    for lane in lanes:
        free.put(lane)

    def run(case: Case) -> Result:
        lane = free.get()
        try:
            return lane.run(case)
        finally:
            free.put(lane)

    with ThreadPoolExecutor(len(lanes)) as pool:
        return list(pool.map(run, wanted))


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Wait until something holds; tell whether it did in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
