"""What endpoints are handed."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from order.domain import Command
from order.identifiers import new_operation_id
from order.ports import Change
from order.use_cases import UseCases
from servicekit import access_log, idempotency
from servicekit.auth.principal import PrincipalDependency
from servicekit.etags import EntityTags, conditional, refuse_if_none_match
from tandem.initiator.records import Key


@dataclass(frozen=True, slots=True)
class Terms:
    """What a request to change something says beside its body."""

    path: str
    key: str | None
    client: str

    def change(self, command: Command, *, operation: str, content: dict[str, Any]) -> Change:
        """Return the change that carries out ``command``.

        Args:
            command: what is asked for.
            operation: the method and the route, for telling requests with the same key apart.
            content: the validated parameters, for the same reason.
        """
        op_id = new_operation_id()
        access_log.bind(order_id=str(command.order_id))
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)
        key = None
        if self.key is not None:
            key = Key(self.client, self.key, idempotency.request_hash(operation, content))
        return Change(
            command=command,
            op_id=op_id,
            path=self.path,
            key=key,
            client=self.client,
            traceparent=carrier.get("traceparent"),
        )


async def _use_cases(request: Request) -> UseCases:
    use_cases: UseCases = request.app.state.use_cases
    return use_cases


async def _terms(
    request: Request,
    principal: PrincipalDependency,
    idempotency_key: Annotated[
        idempotency.KeyHeader | None,
        Header(
            description="Makes the request safe to repeat: the same key and body get the same"
            " answer, byte for byte, and nothing is done twice."
        ),
    ] = None,
) -> Terms:
    refuse_if_none_match(request.headers)
    idempotency.require_one_line(request.headers, idempotency.HEADER)
    key = None if idempotency_key is None else idempotency.parse_key(idempotency_key)
    return Terms(path=request.url.path, key=key, client=principal.client)


UseCasesDependency = Annotated[UseCases, Depends(_use_cases)]
TermsDependency = Annotated[Terms, Depends(_terms)]
IfMatch = Annotated[
    EntityTags | None,
    conditional("If-Match", "Does it only at this version, else answers 412."),
]
IfNoneMatch = Annotated[
    EntityTags | None,
    conditional("If-None-Match", "Answers 304 if the order is still at this version."),
]
