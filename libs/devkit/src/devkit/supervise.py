"""Run one program and never let it outlive the process that asked for it.

Started as a script of its own (standard library only) by :class:`devkit.processes.Process`, with a
plan as JSON in ``argv[1]``. Standard input is the leash: each byte on it is the number of a signal
for the program, and its end, which comes even when the owner is killed with SIGKILL, stops the
program. The program's process id goes to standard output, followed by a dot for each signal that
has been delivered; its exit status becomes this one's (128 + n when signal n ended it).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Final, NoReturn, TypedDict

LINUX: Final = sys.platform == "linux"
LEASH: Final = 0
ANSWERS: Final = 1

# linux/prctl.h, linux/capability.h, linux/securebits.h
PR_SET_PDEATHSIG: Final = 1
PR_SET_KEEPCAPS: Final = 8
PR_SET_SECUREBITS: Final = 28
PR_SET_CHILD_SUBREAPER: Final = 36
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_RAISE: Final = 2
SECBIT_NO_SETUID_FIXUP: Final = 1 << 2
CAP_DAC_OVERRIDE: Final = 1
CAPABILITY_VERSION_3: Final = 0x20080522


class Plan(TypedDict):
    """What to run and how to end it."""

    command: list[str]
    log: str
    folder: str
    user: list[int] | None
    stop_signal: int
    grace_seconds: float


def prctl(*arguments: int) -> None:
    """Call the system call of this name.

    Raises:
        OSError: The kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_ulong(word) for word in (*arguments, *[0] * (5 - len(arguments)))]
    if libc.prctl(*words) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({arguments[0]})")


def set_capabilities(*numbers: int) -> None:
    """Make exactly these capabilities permitted, effective and inheritable."""
    mask = sum(1 << number for number in numbers)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(ctypes.byref(header), ctypes.byref(data)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def become(uid: int, gid: int) -> None:
    """Drop root for good, and keep only the right to pass by the modes of files.

    PostgreSQL refuses to run as root, yet its programs and data may lie below a folder that only
    root can enter. The securebit makes access(2) honour the capability too: PostgreSQL asks it
    whether it can find its own program.
    """
    if LINUX:
        with contextlib.suppress(OSError):  # no CAP_SETPCAP: files must be reachable then
            prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
        prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if LINUX:
        try:
            set_capabilities(CAP_DAC_OVERRIDE)
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE)
        except OSError:  # root without it, as in some containers
            set_capabilities()


def run(plan: Plan, supervisor: int) -> NoReturn:
    """Turn this forked child into the program."""
    log = os.open(plan["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        os.chdir(plan["folder"])
        if plan["user"] is not None:
            become(*plan["user"])
        if LINUX:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != supervisor:
                os._exit(128 + signal.SIGKILL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, programs expect it
        os.execvp(plan["command"][0], plan["command"])  # noqa: S606  (no shell is the point)
    except OSError as failure:
        os.write(2, f"cannot run {plan['command'][0]}: {failure}\n".encode())
    os._exit(127)


def deliver(pid: int, number: int) -> None:
    """Send a signal to a child that has not been reaped; a stopped one is woken to receive it.

    Returns after SIGSTOP only when the child stands still.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        if number == signal.SIGSTOP:
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            os.kill(pid, signal.SIGCONT)


def reap(pid: int) -> int | None:
    """Reap all that has ended; the wait status of ``pid`` if it was among them."""
    found: int | None = None
    with contextlib.suppress(ChildProcessError):
        while True:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended == 0:
                break
            if ended == pid:
                found = status
    return found


def watch(pid: int, plan: Plan, bell: int) -> int:
    """Wait for the program to end, passing signals on; return its wait status."""
    sources = [LEASH, bell]
    deadline: float | None = None
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select(sources, [], [], left)
        if bell in ready:
            os.read(bell, 512)
        if LEASH in ready:
            numbers = os.read(LEASH, 512)
            for number in numbers:
                deliver(pid, number)
                with contextlib.suppress(BrokenPipeError):
                    os.write(ANSWERS, b".")
            if not numbers:
                sources.remove(LEASH)
                deliver(pid, plan["stop_signal"])
                deadline = time.monotonic() + plan["grace_seconds"]
        status = reap(pid)
        if status is not None:
            return status
        if deadline is not None and time.monotonic() >= deadline:
            deliver(pid, signal.SIGKILL)
            deadline = None


def end_orphans() -> None:
    """Kill what the program left behind; as the subreaper this process inherited it."""
    listing = Path(f"/proc/self/task/{os.getpid()}/children")
    with contextlib.suppress(FileNotFoundError, ChildProcessError):
        while pids := listing.read_text().split():
            for pid in pids:
                deliver(int(pid), signal.SIGKILL)
            os.waitpid(-1, 0)


def main() -> int:
    """Run the plan in ``argv[1]`` to its end."""
    plan: Plan = json.loads(sys.argv[1])
    bell, ring = os.pipe()
    os.set_blocking(ring, False)
    signal.set_wakeup_fd(ring)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    if LINUX:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    supervisor = os.getpid()
    pid = os.fork()
    if pid == 0:
        run(plan, supervisor)
    os.write(ANSWERS, f"{pid}\n".encode())
    status = os.waitstatus_to_exitcode(watch(pid, plan, bell))
    end_orphans()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
