"""Wake-up calls by Postgres: ``NOTIFY`` in one replica, ``LISTEN`` in all of them."""

import asyncio
from typing import Final

import structlog
from sqlalchemy.engine import make_url

from tandem.connecting import Connect, Connector
from tandem.errors import detail_of

_CONNECT_TIMEOUT_SECONDS: Final = 5
_KEEP_ALIVE_SECONDS: Final = 15
_log = structlog.stdlib.get_logger(__name__)


class WakeUp:
    """Sets an event whenever the database says that an operation is due.

    It is a hint only: whoever waits for it looks by himself every now and then as well.

    Args:
        database_url: the database.
        channel: where it says so.
        application_name: how the connection shows in the database.
        retry_seconds: how long to wait before connecting again.
        connect: makes the connection, as ``connecting.Connector.connect`` does.
    """

    def __init__(
        self,
        database_url: str,
        *,
        channel: str,
        application_name: str,
        retry_seconds: float = 1.0,
        connect: Connect | None = None,
    ) -> None:
        self._conninfo = make_url(database_url).set(drivername="postgresql")
        self._channel = channel
        self._application_name = application_name
        self._retry_seconds = retry_seconds
        self._connect = connect or Connector().connect
        self._event = asyncio.Event()

    async def wait(self, *, timeout_seconds: float) -> None:
        """Return at the next call, or after ``timeout_seconds``."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()
        except TimeoutError:
            return
        finally:
            self._event.clear()

    async def run(self) -> None:
        """Listen until cancelled, connecting again whenever the connection breaks."""
        while True:
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001 - it is only a hint; the poll goes on
                _log.info("wake_up_disconnected", error=detail_of(error))
            await asyncio.sleep(self._retry_seconds)

    async def _listen(self) -> None:
        connection = await self._connect(
            self._conninfo.render_as_string(hide_password=False),
            autocommit=True,
            connect_timeout=_CONNECT_TIMEOUT_SECONDS,
            application_name=self._application_name,
            keepalives_idle=_KEEP_ALIVE_SECONDS,
        )
        async with connection:
            await connection.execute(f"LISTEN {self._channel}")
            # What was sent before we listened is not repeated: look once now.
            self._event.set()
            async for _ in connection.notifies():
                self._event.set()
