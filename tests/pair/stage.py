"""The pair as a stage on which failures happen; see ``tandem.testing.crashes``."""

import uuid
from dataclasses import dataclass

import httpx
from examples.box_office import seats, tickets
from tests.pair.running import NEVER, Pair, Program, new_seat

from tandem.testing.crashes import Case, Reply

STALL_SECONDS = 2.5  # longer than the lease
FINAL = {200, 201, 404, 409, 422}
POINTS = {
    "tickets": tickets.POINTS.names(),
    # Only a cancellation passes the others.
    "seats": (seats.POINTS.before, seats.POINTS.after),
}


@dataclass(frozen=True)
class Request:
    """One change, under a key of its own, and the ticket it is about if that is known."""

    method: str
    path: str
    body: dict[str, str] | None
    key: str
    ticket: str | None

    @classmethod
    def of(cls, method: str, ticket: str | None = None, **body: str) -> "Request":
        path = "/tickets" if ticket is None else f"/tickets/{ticket}"
        return cls(method, path, body or None, str(uuid.uuid4()), ticket)


class PairStage:
    """A pair with a second box office, which fails."""

    initiator = "tickets"

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self._victim = pair.office()
        self._logged = 0

    def prepare(self, kind: str) -> Request:
        if kind == "create":
            return Request.of("POST", seat=new_seat(), holder="Ada")
        if kind == "update":
            return Request.of("PATCH", self.pair.sold(), holder="Grace")
        return Request.of("DELETE", self.pair.sold())

    def arm(self, case: Case) -> None:
        action = f"stall:{STALL_SECONDS}*1" if case.action == "stall" else case.action
        armed = f"{case.point}={action}"
        self._logged = self._failing(case).log_size()
        if case.service == self.initiator:
            self._victim.start(FAILPOINTS=armed, RECOVERY_SECONDS=NEVER)
        else:
            self.pair.hall.kill()
            self.pair.hall.start(FAILPOINTS=armed)

    def disarm(self, case: Case) -> None:
        self._failing(case).kill()
        if case.service != self.initiator:
            self.pair.hall.start()

    def has_hit(self, case: Case) -> bool:
        return self._failing(case).has_hit(case.point, since=self._logged)

    def send(self, request: Request, case: Case | None = None, /) -> Reply | None:
        fails = case is not None and case.service == self.initiator
        office = self._victim if fails else self.pair.survivor
        try:
            answer = office.send(
                request.method,
                request.path,
                json=request.body,
                headers={"Idempotency-Key": request.key},
            )
        except httpx.TransportError:
            return None
        final = answer.status_code in FINAL and "StillRunning" not in answer.text
        return Reply(answer.status_code, answer.content, final)

    def compete(self, request: Request) -> int | None:
        if request.ticket is None:
            return None
        other = Request.of("PATCH", request.ticket, holder="Barbara")
        answer = self.send(other)
        return None if answer is None else answer.status

    def states(self, key: str) -> list[str]:
        return self.pair.states(key)

    def pending(self) -> int:
        return self.pair.pending()

    def differences(self) -> list[str]:
        return self.pair.differences()

    def _failing(self, case: Case) -> Program:
        return self._victim if case.service == self.initiator else self.pair.hall
