"""Programs that are stopped with their owner, whatever ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

SUPERVISOR: Final = Path(__file__).with_name("supervise.py")
TAIL_LINES: Final = 12
KILL_SECONDS: Final = 10.0


def tail(log: Path, *, lines: int = TAIL_LINES) -> str:
    """The last lines of a log file; empty when there is none."""
    if not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


class Process:
    """One program, its output appended to a log file.

    It is stopped when this object's process ends, even by SIGKILL, and takes nothing it started
    with it into an afterlife. It runs in a session of its own, so that Ctrl-C reaches only the
    owner, who stops its programs in the order that is right.
    """

    def __init__(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        log: Path,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        user: tuple[int, int] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace_seconds: float = 10.0,
        inherit: Sequence[int] = (),
    ) -> None:
        """Describe the program; nothing runs yet.

        Args:
            command: The program and its arguments.
            log: File that its output is appended to.
            folder: Its working directory; ours by default.
            environment: Its whole environment; ours by default.
            user: The uid and gid to run as; needs root.
            stop_signal: What asks it to end.
            grace_seconds: How long it may take to end when its owner is gone.
            inherit: File descriptors of ours that stay open until it has ended.
        """
        self.log = log
        self._plan = {
            "command": [os.fspath(part) for part in command],
            "log": str(log.resolve()),
            "folder": str((folder or Path.cwd()).resolve()),
            "user": user,
            "stop_signal": int(stop_signal),
            "grace_seconds": grace_seconds,
        }
        self._environment = environment
        self._stop_signal = stop_signal
        self._inherit = tuple(inherit)
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    @property
    def pid(self) -> int:
        """The program's process id; 0 before the first start."""
        return self._pid

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._supervisor is not None and self._supervisor.poll() is None

    @property
    def paused(self) -> bool:
        """Whether the program stands still by SIGSTOP, whoever sent it; false where none can say.

        Only Linux tells it, in ``/proc``.
        """
        if not self.running:
            return False
        try:
            state = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            return False
        return state == "T"

    @property
    def returncode(self) -> int | None:
        """Its exit status, 128 + n when signal n ended it; None while it runs."""
        return None if self._supervisor is None else self._supervisor.poll()

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.running:
            return
        self._release()
        with self.log.open("ab") as log:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", str(SUPERVISOR), json.dumps(self._plan)],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                pass_fds=self._inherit,
                start_new_session=True,
            )
        assert self._supervisor.stdout is not None  # noqa: S101  (as asked for above)
        self._pid = int(self._supervisor.stdout.readline() or 0)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program itself and return when it is delivered.

        Nothing happens when the program has ended.
        """
        if not self.running or self._supervisor is None:
            return
        leash, answers = self._supervisor.stdin, self._supervisor.stdout
        assert leash is not None and answers is not None  # noqa: S101, PT018  (as asked for)
        try:
            leash.write(bytes([number]))
        except BrokenPipeError:  # it ended just now
            return
        answers.read(1)

    def wait(self, *, timeout_seconds: float) -> int:
        """Wait for its end and return its exit status.

        Raises:
            TimeoutError: It still runs.
        """
        if self._supervisor is None:
            return 0
        try:
            return self._supervisor.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self._plan['command']} still runs") from None

    def stop(self, *, timeout_seconds: float = 10.0) -> None:
        """Ask it to end and wait; after ``timeout_seconds`` it is killed."""
        self.signal(self._stop_signal)
        try:
            self.wait(timeout_seconds=timeout_seconds)
        except TimeoutError:
            self.kill()
        self._release()

    def kill(self) -> None:
        """End it with SIGKILL, and all that it started; returns when it is gone."""
        self.signal(signal.SIGKILL)
        self.wait(timeout_seconds=KILL_SECONDS)
        self._release()

    def _release(self) -> None:
        """Close the pipes of a supervisor that has ended."""
        if self._supervisor is None:
            return
        for pipe in (self._supervisor.stdin, self._supervisor.stdout):
            if pipe is not None:
                pipe.close()
