"""The invoice service, broken in one place each: what its safety tests must notice."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.errors import UniqueViolation
from sqlalchemy import ColumnElement, true

import fencelock
from tandem.decider import Record, Records
from tandem.store import Session


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


class NoVersionCheck(Records):
    """Changes the row whatever its version is."""

    def conditions(self) -> list[ColumnElement[bool]]:
        return [true()]


class NoFenceCheck(Records):
    """Changes the row also under an older lock than the one that wrote it."""

    def conditions(self) -> list[ColumnElement[bool]]:
        return super().conditions()[:2]


class RecordedBeforeChanged(Records):
    """Commits the record of an operation before the row is changed."""

    async def decide_at_once(
        self, session: Session, record: Record, values: Mapping[str, Any]
    ) -> bool:
        await self.record(session, record)
        return await self.write(session, record, values)


class LookThenInsert(Records):
    """Looks for the record first and inserts it if there was none."""

    async def decide_at_once(
        self, session: Session, record: Record, values: Mapping[str, Any]
    ) -> bool:
        if await self.find(session, record.identity) is not None:
            return False
        # Several at once all look before any inserts, as it happens under load.
        await asyncio.sleep(0.1)
        try:
            return await super().decide_at_once(session, record, values)
        except UniqueViolation as error:
            raise AssertionError("nobody else can have inserted it") from error
