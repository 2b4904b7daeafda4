"""``run``: run a program while a lock is held, and stop it when the lock is lost."""

import asyncio
import ctypes
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fencelock._cli import page
from fencelock._cli.exits import Exit
from fencelock._client import AsyncLockClient
from fencelock._errors import LeaseLost, NotOwner, RedisUnavailable
from fencelock._lease import AsyncLease

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
FORWARDED = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT")
    if hasattr(signal, name)
)
# A terminal sends these to everybody in the foreground by itself.
FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, and how it is stopped."""

    command: Sequence[str]
    grace: float
    """Seconds between SIGTERM and SIGKILL once the lease is lost."""


class Runner:
    """One program under one lock."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._child: Process | None = None
        self._signalled: int | None = None
        self._main = asyncio.current_task()
        self._held = False
        self._over = False
        # Of a group of its own all descendants can be reached; on a terminal that would put the
        # program into the background.
        self._on_terminal = page.is_terminal(sys.stdin)

    async def run(self, client: AsyncLockClient, names: Sequence[str]) -> int:
        """Take the lock, run the program, release. Returns the exit code."""
        self._listen()
        try:
            lease = await client.acquire(*names)
            self._held = True
        except asyncio.CancelledError:
            if self._signalled is None:
                raise
            return Exit.SIGNALLED + self._signalled
        finally:
            self._over = not self._held
        try:
            code = await self._under(lease)
        finally:
            self._over = True
            held = await self._release(lease)
        return code if held else Exit.LEASE_LOST

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in FORWARDED:
            # What nohup, or a shell for its background, made us ignore is not for the program.
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._forward, number)
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            # The system would collect the program, and its exit code with it.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def _forward(self, number: int) -> None:
        if self._over:
            return
        if self._child is not None:
            if not (self._on_terminal and number in FROM_TERMINAL):
                self._send(self._child, number)
        elif number != signal.SIGCONT and self._signalled is None:
            self._signalled = number
            if not self._held and self._main is not None:
                # Still waiting for the lock: give up, once, and in order.
                self._main.cancel()

    async def _under(self, lease: AsyncLease) -> int:
        lost = asyncio.get_running_loop().create_future()
        lease.on_lost(lambda reason: None if lost.done() else lost.set_result(reason))
        try:
            child = self._child = await self._start(lease)
        except OSError as error:
            page.complain(f"{self._program.command[0]}: {error.strerror}")
            missing = isinstance(error, FileNotFoundError)
            return Exit.NO_SUCH_COMMAND if missing else Exit.CANNOT_EXECUTE
        if self._signalled is not None:
            # It came while the program was being started.
            self._send(child, self._signalled)
        ended = asyncio.ensure_future(child.wait())
        await asyncio.wait((ended, lost), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            page.complain(f"the lock was lost ({lost.result()}): stopping the program")
            await self._stop(child, ended)
            return Exit.LEASE_LOST
        code = ended.result()
        return code if code >= 0 else Exit.SIGNALLED - code

    async def _start(self, lease: AsyncLease) -> Process:
        return await asyncio.create_subprocess_exec(
            *self._program.command,
            env={
                **os.environ,
                "FENCELOCK_FENCE": str(lease.fence),
                "FENCELOCK_NAMES": " ".join(lease.names),
                "FENCELOCK_PROOF": lease.proof(),
            },
            start_new_session=not self._on_terminal,
            preexec_fn=_die_with(os.getpid()),
        )

    async def _stop(self, child: Process, ended: "asyncio.Future[int]") -> None:
        self._send(child, signal.SIGTERM)
        await asyncio.wait((ended,), timeout=self._program.grace)
        # Whatever is left of its group goes too, also when the program itself ended at once.
        self._send(child, signal.SIGKILL)
        await ended

    def _send(self, child: Process, number: int) -> None:
        try:
            if self._on_terminal:
                child.send_signal(number)
            else:
                os.killpg(child.pid, number)
        except ProcessLookupError:
            pass  # it has ended

    async def _release(self, lease: AsyncLease) -> bool:
        """False if the lease had ended before."""
        try:
            await lease.release()
        except (LeaseLost, NotOwner) as error:
            page.complain(str(error))
            return False
        except RedisUnavailable as error:
            page.complain(f"the release was not confirmed: {error}")
        return True


def _die_with(parent: int) -> Callable[[], None] | None:
    """What makes a child stop if we are killed, where the system can do that (Linux)."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl

    def arrange() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it was killed before that
            os.kill(os.getpid(), signal.SIGTERM)

    return arrange
