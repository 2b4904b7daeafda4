"""Runs a command and starts it again whenever a Python source file changes.

For the images' ``dev`` target only: as PID 1 it outlives the service, so that the files Tilt has
copied into the container are still there. ``reload.py DIRECTORY... -- COMMAND...``
"""  # noqa: INP001  (a script, not a module of a package)

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

POLL_SECONDS = 0.5
STOP_SECONDS = 30.0


def fingerprint(directories: list[Path]) -> dict[Path, int]:
    """When each source file last changed; one that vanishes meanwhile counts as gone."""
    found: dict[Path, int] = {}
    for path in (path for directory in directories for path in directory.rglob("*.py")):
        try:
            found[path] = path.stat().st_mtime_ns
        except FileNotFoundError:
            continue
    return found


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the command to stop as the cluster would; kill it if it does not in time."""
    process.terminate()
    try:
        process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=STOP_SECONDS)


def run_until_change(command: list[str], directories: list[Path], ended: threading.Event) -> None:
    """Run the command once: until a source changes, or until ``ended`` is set.

    A command that is done, as a migration is, ends the loop. One that fails by itself is left dead
    until the next change: the developer is typing.
    """
    before = fingerprint(directories)
    process = subprocess.Popen(command)  # noqa: S603
    while not ended.wait(POLL_SECONDS) and fingerprint(directories) == before:
        if process.poll() == 0:
            ended.set()
    stop(process)


def main(arguments: list[str]) -> int:
    """Reload until told to end by SIGTERM or SIGINT."""
    border = arguments.index("--")
    directories, command = [Path(name) for name in arguments[:border]], arguments[border + 1 :]
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    while not ended.is_set():
        run_until_change(command, directories, ended)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
