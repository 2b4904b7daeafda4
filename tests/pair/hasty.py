"""The broken variant of the box office: whatever is no success has failed."""

from collections.abc import Sequence

from examples.box_office.tickets import create_app
from examples.box_office.tickets import main as serve

from tandem.errors import OutcomeUnknown
from tandem.initiator.plain import PlainOperation
from tandem.initiator.ports import Decision
from tandem.operation import Outcome
from tandem.wire import WireDecider


class TakesErrorsAsFinal(WireDecider):
    """Takes an answer that was lost for a refusal."""

    async def send(
        self, operation: PlainOperation, *, proof: str, timeout_seconds: float
    ) -> Decision:
        try:
            return await super().send(operation, proof=proof, timeout_seconds=timeout_seconds)
        except OutcomeUnknown as error:
            return Decision(Outcome.REJECTED, str(error))


def main(arguments: Sequence[str]) -> int:
    return serve(arguments, lambda: create_app(TakesErrorsAsFinal))
