"""The invoice service, broken in one place each: what its safety tests must notice."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import insert, update

import fencelock
from invoice.domain import Change, Update
from invoice.models import AppliedOperation, InvoiceRow
from invoice.operations import RecordedOperation
from invoice.repository import InvoiceRepository


@dataclass(frozen=True)
class Lease:
    fence: int


class LockNotChecked:
    """Takes every proof for good."""

    def __init__(self, *, fence: int = 2**53) -> None:
        self._fence = fence

    async def verify(
        self,
        proof: str,
        names: Sequence[str],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - fencelock's own signature
    ) -> Lease:
        return Lease(self._fence)


class LockCheckFailsOpen:
    """Takes a proof for good when Redis cannot say."""

    def __init__(self, client: fencelock.AsyncLockClient) -> None:
        self._client = client

    async def verify(
        self,
        proof: str,
        names: Sequence[str],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - fencelock's own signature
    ) -> Lease:
        try:
            return Lease((await self._client.verify(proof, names, timeout=timeout)).fence)
        except fencelock.RedisUnavailable:
            return Lease(2**53)


class NoVersionCheck(InvoiceRepository):
    """Changes the row whatever its version is."""

    async def apply(self, change: Change, *, op_id: UUID, fence: int, now: datetime) -> bool:
        return await _apply(self, change, op_id=op_id, fence=fence, condition=True)


class NoFenceCheck(InvoiceRepository):
    """Changes the row also under an older lock than the one that wrote it."""

    async def apply(self, change: Change, *, op_id: UUID, fence: int, now: datetime) -> bool:
        right_version = InvoiceRow.version == change.version - 1
        return await _apply(self, change, op_id=op_id, fence=fence, condition=right_version)


class RecordedBeforeChanged(InvoiceRepository):
    """Commits the record of an operation before the row is changed."""

    async def record(self, operation: RecordedOperation) -> bool:
        new = await super().record(operation)
        await self._session.commit()
        return new


class LookThenInsert(InvoiceRepository):
    """Looks for the record first and inserts it if there was none."""

    async def record(self, operation: RecordedOperation) -> bool:
        if await self.recorded(operation.identity) is not None:
            return False
        # Two at once both look before either inserts, as it happens under load.
        await asyncio.sleep(0.1)
        await self._session.execute(
            insert(AppliedOperation).values(
                op_id=operation.op_id,
                request_hash=operation.request_hash,
                kind=operation.kind.value,
                outcome=operation.outcome.value,
                invoice_id=operation.invoice_id,
                version=operation.version,
                fence=operation.fence,
                direct=operation.direct,
                response_status=operation.response.status,
                response_headers=operation.response.headers_json(),
                response_body=operation.response.body,
                created_at=operation.created_at,
            )
        )
        return True


async def _apply(
    repository: InvoiceRepository, change: Change, *, op_id: UUID, fence: int, condition: object
) -> bool:
    statement = (
        update(InvoiceRow)
        .where(InvoiceRow.id == change.invoice_id)
        .values(status=change.status.value, version=change.version, fence=fence, last_op=op_id)
        .returning(InvoiceRow.id)
        .execution_options(synchronize_session=False)
    )
    if condition is not True:
        statement = statement.where(condition)  # type: ignore[arg-type]
    if isinstance(change, Update):
        statement = statement.values(total=change.total)
    return (await repository._session.execute(statement)).first() is not None
