"""Files that are replaced while a process runs, as Kubernetes replaces those of a Secret."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

import structlog

_LOOK_SECONDS: Final = 5.0
"""How often a file is looked at, at most."""
_PAUSE_SECONDS: Final = 10.0
"""After so long without a look, what the file said is not used before another one."""
_WAIT_SECONDS: Final = 1.0
"""How long that look is waited for; a look at a file takes much less than a millisecond."""
_MAXIMUM_BYTES: Final = 1_048_576
_log = structlog.stdlib.get_logger(__name__)

Content = TypeVar("Content")


class WatchedFile(Generic[Content]):
    """What a file says, read anew some seconds after it has changed.

    Whoever asks gets what was read last, and another look is begun beside it; after a pause that
    one is waited for. A file that has become unreadable changes nothing, but
    for a line in the log.

    Args:
        path: the file.
        parse: makes of it what it means; raises ValueError if it means nothing.
        clock: seconds that only grow.

    Raises:
        ValueError: the file cannot be read, or means nothing; the message does not show it.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[bytes], Content],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._parse = parse
        self._clock = clock
        self._looked_at = self._seen_at = clock()
        self._round: asyncio.Task[None] | None = None
        self._stamp, self._content = self._read()

    async def current(self) -> Content:
        """Return what the file said a few seconds ago at most, however long nobody has asked.

        A disk that hangs keeps only those waiting who come within a second of the look's begin.
        """
        if self._clock() - self._looked_at >= _LOOK_SECONDS:
            self._begin()
        if self._round is None or self._clock() - self._seen_at < _PAUSE_SECONDS:
            return self._content
        left = self._looked_at + _WAIT_SECONDS - self._clock()
        await asyncio.wait({self._round}, timeout=max(0.0, left))
        return self._content

    async def latest(self) -> Content:
        """Return what the file says now; whoever calls this sets a limit to it."""
        # One look at a time, whatever the disk does: threads that hang would use up their pool.
        await asyncio.shield(self._begin())
        return self._content

    async def aclose(self) -> None:
        """Give up a look that is going on."""
        if self._round is not None:
            self._round.cancel()
            await asyncio.wait({self._round})

    def _begin(self) -> "asyncio.Task[None]":
        if self._round is None:
            self._looked_at = self._clock()
            self._round = asyncio.get_running_loop().create_task(self._look(), name="watched file")
            self._round.add_done_callback(self._looked)
        return self._round

    def _looked(self, _task: "asyncio.Task[None]") -> None:
        self._round = None
        self._seen_at = self._clock()

    async def _look(self) -> None:
        try:
            found = await asyncio.to_thread(self._read_changed)
        except ValueError as error:
            _log.error("file_not_taken", path=str(self._path), error=str(error))
            return
        if found is not None:
            self._stamp, self._content = found
            _log.info("file_read_again", path=str(self._path))

    def _read_changed(self) -> tuple[object, Content] | None:
        try:
            if _stamp_of(self._path.stat()) == self._stamp:
                return None
        except OSError as error:
            raise ValueError(f"{self._path}: {error.strerror}") from error
        return self._read()

    def _read(self) -> tuple[object, Content]:
        try:
            with self._path.open("rb") as file:
                stamp = _stamp_of(os.fstat(file.fileno()))
                raw = file.read(_MAXIMUM_BYTES + 1)
        except OSError as error:
            raise ValueError(f"{self._path}: {error.strerror}") from error
        if len(raw) > _MAXIMUM_BYTES:
            raise ValueError(f"{self._path}: more than {_MAXIMUM_BYTES} bytes")
        try:
            return stamp, self._parse(raw)
        except ValueError as error:
            raise ValueError(f"{self._path}: {error}") from error


def _stamp_of(status: os.stat_result) -> object:
    return status.st_mtime_ns, status.st_size, status.st_ino


def parse_credential(raw: bytes) -> str:
    """Return the token that a file holds, in one line.

    Raises:
        ValueError: it is not one token.
    """
    try:
        token = raw.decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise ValueError("must hold one access token, of visible ASCII characters") from error
    if not token or not all("!" <= character <= "~" for character in token):
        raise ValueError("must hold one access token, of visible ASCII characters")
    return token
