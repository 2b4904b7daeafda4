"""A command in a pod that goes on until we say so."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from tests.e2e.harness.waiting import eventually

END_SECONDS: Final = 60.0


class Interaction:
    """A program whose standard input stays open while the context lasts.

    The end of its input tells the program to finish, also when this process is killed.
    """

    def __init__(self, command: Sequence[str], *, log: Path) -> None:
        """Describe it; nothing runs yet. ``log`` takes its output."""
        self._command, self._log = tuple(command), log

    def __enter__(self) -> Self:
        """Start it."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        """Close its input and wait for its end; after a limit it is killed."""
        try:
            self._process.communicate(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise

    def write(self, text: str) -> None:
        """Give the program something to read."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def wait_line(self, line: str, *, timeout_seconds: float) -> None:
        """Wait until it has written this line.

        Raises:
            TimeoutError: It has not, or it ended before; carries what it wrote.
        """
        said = eventually(
            lambda: (self._log.read_text().splitlines(), self._process.poll()),
            until=lambda seen: line in seen[0] or seen[1] is not None,
            what=f"the line {line!r}",
            timeout_seconds=timeout_seconds,
            every_seconds=0.1,
        )
        if line not in said[0]:
            raise TimeoutError(f"it ended with {said[1]} instead: {said[0]}")
