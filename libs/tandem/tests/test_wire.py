"""What the initiator believes of what the decider says, without a network."""

import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tandem.errors import OutcomeUnknown
from tandem.initiator.plain import PlainOperation
from tandem.initiator.ports import Decision
from tandem.operation import Answer, Kind, Outcome, Refusal
from tandem.wire import WireAnswers, WireDecider, not_recorded, operation_of, proposal_of

OPERATION = PlainOperation(
    id=uuid.uuid4(),
    subject_id=uuid.uuid4(),
    kind=Kind.UPDATE,
    version=3,
    body={"seat": "A1", "holder": "Ada"},
)
PROPOSAL = proposal_of(OPERATION)
ANSWERS = WireAnswers()
APPLIED = ANSWERS.applied(PROPOSAL, fence=1, now=datetime.now(UTC))


def in_lower_case(answer: Answer) -> Answer:
    """The answer as HTTP clients show it."""
    headers = tuple((name.lower(), value) for name, value in answer.headers)
    return answer._replace(headers=headers)


class Says:
    """A decider that has one answer; it keeps what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self._answer = in_lower_case(answer)
        self.asked: list[tuple[str, str]] = []
        self.content: bytes | None = None

    async def __call__(
        self, method: str, path: str, /, *, content: bytes | None, **_: Any
    ) -> Answer:
        self.asked.append((method, path))
        self.content = content
        return self._answer


async def sent(answer: Answer, operation: PlainOperation = OPERATION) -> Decision:
    return await WireDecider(Says(answer)).send(operation, proof="p", timeout_seconds=1)


async def test_what_is_sent_is_the_operation_that_is_read() -> None:
    says = Says(APPLIED)
    await WireDecider(says).send(OPERATION, proof="p", timeout_seconds=1)
    assert says.asked == [("PUT", f"/operations/{OPERATION.id}")]
    assert says.content is not None
    assert operation_of(OPERATION.id, json.loads(says.content)) == OPERATION


async def test_each_recorded_outcome_is_a_decision() -> None:
    rejected = ANSWERS.rejected(PROPOSAL, Refusal.EXISTS)
    assert await sent(APPLIED) == Decision(Outcome.APPLIED)
    assert await sent(rejected) == Decision(Outcome.REJECTED, "exists")
    assert await sent(ANSWERS.aborted(PROPOSAL.identity)) == Decision(Outcome.ABORTED)


@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        pytest.param(OPERATION, APPLIED._replace(headers=()), id="no outcome"),
        pytest.param(
            OPERATION, APPLIED._replace(headers=(("operation-outcome", "odd"),)), id="odd outcome"
        ),
        pytest.param(OPERATION, APPLIED._replace(body=b"<html>"), id="no document"),
        pytest.param(OPERATION, APPLIED._replace(body=b"[]"), id="another document"),
        pytest.param(replace(OPERATION, id=uuid.uuid4()), APPLIED, id="another operation"),
        pytest.param(replace(OPERATION, subject_id=uuid.uuid4()), APPLIED, id="another subject"),
        pytest.param(replace(OPERATION, version=4), APPLIED, id="another version"),
    ],
)
async def test_an_answer_that_is_not_about_the_operation_decides_nothing(
    operation: PlainOperation, answer: Answer
) -> None:
    with pytest.raises(OutcomeUnknown):
        await sent(answer, operation)


async def test_only_the_deciders_own_404_says_that_nothing_is_recorded() -> None:
    ask = WireDecider(Says(not_recorded()))
    assert await ask.recorded(OPERATION, timeout_seconds=1) is None
    with pytest.raises(OutcomeUnknown):
        await WireDecider(Says(Answer(404, (), b"not here"))).recorded(OPERATION, timeout_seconds=1)


@pytest.mark.parametrize("broken", [{}, {"version": "x"}, {"subject_id": 1}, {"kind": "odd"}])
def test_what_is_no_operation_is_refused(broken: dict[str, Any]) -> None:
    whole = {"subject_id": str(uuid.uuid4()), "kind": "create", "version": 1, "body": {}}
    with pytest.raises(ValueError, match="not an operation"):
        operation_of(uuid.uuid4(), whole | broken if broken else {})
