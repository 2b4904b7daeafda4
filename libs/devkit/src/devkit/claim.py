"""One run per folder."""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from devkit.errors import AlreadyRunning, DevkitError

POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class Run:
    """What others need to know about the run that holds a folder."""

    pid: int
    order_url: str
    invoice_url: str
    order_environment: dict[str, str]


class Claim:
    """The right to be the only run in a folder, given back when the last of its processes ends.

    The lock is on an open file that the servers inherit, so a next run cannot meet servers of the
    last one that are still on their way out.
    """

    def __init__(self, folder: Path, *, wait_seconds: float = 20.0) -> None:
        self._folder = folder
        self._wait_seconds = wait_seconds
        self._file = -1

    @property
    def descriptor(self) -> int:
        """The open file that keeps the claim for whoever inherits it."""
        return self._file

    def __enter__(self) -> Self:
        """Take the claim.

        Raises:
            AlreadyRunning: Another run has it and does not end.
            DevkitError: The folder belongs to somebody else.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except PermissionError:
            raise DevkitError(
                f"{self._folder} belongs to another user. Remove it as that user (make clean), or "
                "keep your data elsewhere: make up SHOP=/some/folder"
            ) from None
        deadline = time.monotonic() + self._wait_seconds
        while not self._taken():
            run = read_run(self._folder)
            if run is not None:
                os.close(self._file)
                raise AlreadyRunning(
                    f"The shop already runs from {self._folder} (process {run.pid}): orders at "
                    f"{run.order_url}, invoices at {run.invoice_url}. Stop it with Ctrl-C there."
                )
            if time.monotonic() >= deadline:
                os.close(self._file)
                raise AlreadyRunning(
                    f"Another run holds {self._folder} and has not finished starting or stopping. "
                    "Try again in a moment."
                )
            time.sleep(POLL_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        (self._folder / "run.json").unlink(missing_ok=True)
        os.close(self._file)

    def publish(self, run: Run) -> None:
        """Tell others about this run."""
        path = self._folder / "run.json"
        path.unlink(missing_ok=True)  # a killed run's, perhaps of another user
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(run)))

    def _taken(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def read_run(folder: Path) -> Run | None:
    """The run that holds ``folder`` and serves, if there is one."""
    try:
        run = Run(**json.loads((folder / "run.json").read_text()))
    except (FileNotFoundError, PermissionError, json.JSONDecodeError):
        return None
    return run if _alive(run.pid) else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs as somebody else
        return True
    return True
