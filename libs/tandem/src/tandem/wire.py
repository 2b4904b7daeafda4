"""Operations and decisions as JSON, for pairs that have no form of their own.

The initiator puts an operation to ``/operations/{id}`` with the proof of its locks, gets
``/operations/{id}?subject_id=`` to ask what is recorded, and posts ``/operations/{id}/abort`` to
cancel it. The decider answers with what it has recorded, and the header ``Operation-Outcome``;
whatever comes without that header decides nothing.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID

from tandem.decider import Identity, Proposal
from tandem.errors import OutcomeUnknown
from tandem.http import LOCK_TOKEN, OPERATION_OUTCOME
from tandem.initiator.plain import PlainOperation
from tandem.initiator.ports import Decision
from tandem.operation import Answer, Kind, Outcome, Refusal

NOT_RECORDED: Final = "operation-not-recorded"
"""What the answer says of an operation of which nothing is recorded yet."""
_SERVER_ERROR: Final = 500
_MALFORMED: Final = (ValueError, KeyError, TypeError, AttributeError)


def operation_of(op_id: UUID, document: Mapping[str, Any]) -> PlainOperation:
    """Return the operation that a request brings.

    Raises:
        ValueError: it brings none.
    """
    try:
        return PlainOperation(
            id=op_id,
            subject_id=UUID(document["subject_id"]),
            kind=Kind(document["kind"]),
            version=int(document["version"]),
            body=dict(document["body"]),
        )
    except _MALFORMED as error:
        raise ValueError(f"not an operation: {error}") from error


def proposal_of(operation: PlainOperation) -> Proposal:
    """Return what the decider is asked to decide."""
    content = json.dumps(_document_of(operation), sort_keys=True)
    return Proposal(
        identity=Identity(operation.id, operation.subject_id, direct=False),
        request_hash=hashlib.sha256(content.encode()).digest(),
        kind=Kind(operation.kind),
        version=operation.version,
        values=operation.body,
        demands_version=True,
        path=f"/operations/{operation.id}",
    )


class WireAnswers:
    """The decider's answers; see ``tandem.decider.Answers``."""

    def applied(self, proposal: Proposal, *, fence: int, now: datetime) -> Answer:  # noqa: ARG002
        """Return the answer to a change that takes effect."""
        return _answer(200, proposal.identity, Outcome.APPLIED, version=proposal.version)

    def rejected(self, proposal: Proposal, refusal: Refusal) -> Answer:
        """Return the answer to a change that was refused for a reason that will not go away."""
        return _answer(
            409,
            proposal.identity,
            Outcome.REJECTED,
            version=proposal.version,
            detail=refusal.value,
        )

    def aborted(self, identity: Identity) -> Answer:
        """Return the answer to an operation that must never be applied."""
        return _answer(410, identity, Outcome.ABORTED)


def not_recorded() -> Answer:
    """Return the answer to who asks for a decision that is not there."""
    content = json.dumps({"error": NOT_RECORDED}).encode()
    return Answer(404, (("content-type", "application/json"),), content)


class Ask(Protocol):
    """An HTTP client of one service."""

    async def __call__(
        self,
        method: str,
        path: str,
        /,
        *,
        headers: Mapping[str, str],
        content: bytes | None,
        timeout_seconds: float,
    ) -> Answer:
        """Make a request and return the answer; header names are in lower case.

        Raises:
            OutcomeUnknown: there is none.
        """
        ...


class WireDecider:
    """The decider over HTTP; see ``tandem.initiator.ports.Decider``.

    Args:
        ask: the HTTP client.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def send(
        self, operation: PlainOperation, *, proof: str, timeout_seconds: float
    ) -> Decision:
        """Ask it to apply an operation; asking twice is the same as asking once.

        Raises:
            OutcomeUnknown: it gave no recorded outcome.
        """
        answer = await self._ask(
            "PUT",
            f"/operations/{operation.id}",
            headers={LOCK_TOKEN: proof, "content-type": "application/json"},
            content=json.dumps(_document_of(operation)).encode(),
            timeout_seconds=timeout_seconds,
        )
        return _decision_of(answer, operation)

    async def recorded(
        self, operation: PlainOperation, *, timeout_seconds: float
    ) -> Decision | None:
        """Return what it has recorded for an operation, None if nothing yet.

        Raises:
            OutcomeUnknown: it did not say.
        """
        answer = await self._ask(
            "GET",
            f"/operations/{operation.id}?subject_id={operation.subject_id}",
            headers={},
            content=None,
            timeout_seconds=timeout_seconds,
        )
        if answer.status == not_recorded().status and _json_of(answer).get("error") == NOT_RECORDED:
            return None
        return _decision_of(answer, operation)

    async def abort(self, operation: PlainOperation, *, timeout_seconds: float) -> Decision:
        """Ask it never to apply an operation; return what stands, which may be that it did.

        Raises:
            OutcomeUnknown: it did not say.
        """
        answer = await self._ask(
            "POST",
            f"/operations/{operation.id}/abort?subject_id={operation.subject_id}",
            headers={},
            content=None,
            timeout_seconds=timeout_seconds,
        )
        return _decision_of(answer, operation)

    def permits(self, at_most: int) -> int:
        """Return how many calls are worth making now: there is no circuit breaker."""
        return at_most

    def require_available(self) -> None:
        """Return: nobody knows that it is not."""


def _document_of(operation: PlainOperation) -> dict[str, Any]:
    return {
        "subject_id": str(operation.subject_id),
        "kind": str(operation.kind),
        "version": operation.version,
        "body": dict(operation.body),
    }


def _answer(
    status: int,
    identity: Identity,
    outcome: Outcome,
    *,
    version: int | None = None,
    detail: str = "",
) -> Answer:
    document = {
        "id": str(identity.op_id),
        "subject_id": str(identity.subject_id),
        "version": version,
        "detail": detail,
    }
    headers = ((OPERATION_OUTCOME, outcome.value), ("content-type", "application/json"))
    return Answer(status, headers, json.dumps(document).encode())


def _decision_of(answer: Answer, operation: PlainOperation) -> Decision:
    outcome = dict(answer.headers).get(OPERATION_OUTCOME.lower())
    document = _json_of(answer)
    if outcome is None or outcome not in set(Outcome):
        raise OutcomeUnknown(
            f"an answer {answer.status} without an outcome",
            retryable=answer.status >= _SERVER_ERROR,
        )
    about = (document.get("id"), document.get("subject_id"))
    if about != (str(operation.id), str(operation.subject_id)):
        raise OutcomeUnknown(f"an answer about operation {about[0]}", retryable=False)
    if outcome != Outcome.ABORTED and document.get("version") != operation.version:
        raise OutcomeUnknown(f"an answer about version {document.get('version')}", retryable=False)
    return Decision(Outcome(outcome), detail=str(document.get("detail", "")))


def _json_of(answer: Answer) -> dict[str, Any]:
    try:
        document = json.loads(answer.body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
