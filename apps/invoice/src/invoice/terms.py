"""What the headers of a change say: who it is, what it expects and what it may."""

import uuid
from dataclasses import dataclass

from invoice.domain import (
    invoice_id_for_order,
    operation_id_for_key,
    operation_id_of_client,
    parse_uuid,
)
from servicekit import idempotency
from servicekit.auth.principal import ANONYMOUS, INTERNAL, Principal
from servicekit.etags import EntityTags
from servicekit.problems import PreconditionRequired, ValidationFailed


@dataclass(frozen=True, slots=True)
class Terms:
    """The headers ``Idempotency-Key``, ``If-Match``, ``Lock-Token``, ``Order-Id`` and who asks."""

    key: str | None = None
    if_match: EntityTags | None = None
    proof: str | None = None
    order_id: uuid.UUID | None = None
    principal: Principal = ANONYMOUS

    def operation_id(self) -> uuid.UUID:
        """Return the id under which the request is decided once; a new one without a key.

        The order service names its operations itself, and so does everybody where nobody has to
        say who they are; all others have keys of their own, which lead to nobody else's operation.
        """
        if not self.principal.is_internal:
            return operation_id_of_client(self.principal.client, self.key)
        return uuid.uuid4() if self.key is None else operation_id_for_key(self.key)

    def require_internal(self) -> None:
        """Demand that it is the order service that asks for a change of an order's invoice.

        Raises:
            Forbidden: it is not.
        """
        self.principal.require(INTERNAL, to="change the invoice of an order")

    def order_of(self, invoice_id: uuid.UUID) -> uuid.UUID | None:
        """Return the order that the request names, if the invoice's id follows from it."""
        if self.order_id is None or invoice_id_for_order(self.order_id) != invoice_id:
            return None
        return self.order_id

    def require_operation(self) -> None:
        """Demand the key of an order's operation.

        Raises:
            PreconditionRequired: there is no key.
            ValidationFailed: it is not a UUID.
        """
        if self.key is None:
            raise PreconditionRequired(
                "An order's invoice changes only with the header Idempotency-Key,"
                " which carries the operation's id."
            )
        if parse_uuid(self.key) is None:
            raise ValidationFailed.of(idempotency.HEADER, "must be a UUID for an order's invoice")

    def require_version(self) -> int:
        """Return the one version that an order's operation builds on.

        Raises:
            PreconditionRequired: there is no If-Match.
            ValidationFailed: it names no version, or several.
        """
        if self.if_match is None:
            raise PreconditionRequired("An order's invoice changes only with the header If-Match.")
        version = self.if_match.only_version()
        if version is None:
            raise ValidationFailed.of("If-Match", 'must name one version, such as "3"')
        return version

    def base_version(self, current: int) -> int | None:
        """Return the version that the change builds on; None if If-Match rules out ``current``.

        One named version is returned as it is, since the database compares it when it writes.
        """
        if self.if_match is None or self.if_match.match_strongly(current):
            return current
        return self.if_match.only_version()
