"""Locks of other projects as contestants, each in a process of an environment of their own.

What they need may contradict what this repository pins, so they are not in its environment:
``--peers PYTHON`` names an interpreter that has some of them, and ``--with-peers`` makes one for
the run, with pip and its settings.
"""

import json
import subprocess
import venv
from pathlib import Path
from threading import Timer
from typing import Any

HERE = Path(__file__).parent
FOR_THREADS = ("python-redis-lock", "pottery")
FOR_TASKS = ("pottery asyncio", "redis-fifo-lock")
# Whatever takes longer than this for one measurement has failed.
ANSWER_SECONDS = 60.0


class PeerFailed(Exception):
    """The lock of another project could not do what a row asks for."""


def make_environment(folder: Path) -> Path:
    """Install the other locks into an environment of their own: its interpreter.

    Raises:
        RuntimeError: pip could not install them.
    """
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    command: list[str | Path] = [python, "-m", "pip", "install", "-q", "-r", HERE / "peers.txt"]
    made = subprocess.run(command, check=False, capture_output=True, text=True)
    if made.returncode != 0:
        raise RuntimeError(f"the peers could not be installed: {made.stderr.strip()[-500:]}")
    return python


class Peer:
    """One of them, running."""

    def __init__(self, name: str, python: Path | None, url: str) -> None:
        self.name = name
        self.missing: str | None = "not installed (see --with-peers)"
        self._process: subprocess.Popen[str] | None = None
        if python is None:
            return
        self._process = subprocess.Popen(
            [python, HERE / "peer_program.py", name, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        said = self._read()
        self.missing = f"not installed ({said['missing']})" if "missing" in said else None

    def measure(self, what: str, *numbers: float) -> Any:
        """Have something measured.

        Raises:
            PeerFailed: it could not do it.
        """
        if self._process is None or self._process.stdin is None:
            raise PeerFailed(self.missing)
        try:
            self._process.stdin.write(json.dumps([what, *numbers]) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise PeerFailed("its process ended") from error
        said = self._read()
        if "failed" in said:
            raise PeerFailed(said["failed"])
        return said["result"]

    def close(self) -> None:
        """End its process."""
        if self._process is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdout is None:
            raise PeerFailed(self.missing)
        limit = Timer(ANSWER_SECONDS, process.kill)
        limit.start()
        try:
            line = process.stdout.readline()
        finally:
            limit.cancel()
        try:
            said = json.loads(line)
        except ValueError as error:
            raise PeerFailed(f"its process ended, or said {line!r}") from error
        return dict(said)


def start(python: Path | None, url: str) -> list[Peer]:
    """All of them, those that are not installed included."""
    return [Peer(name, python, url) for name in (*FOR_THREADS, *FOR_TASKS)]
