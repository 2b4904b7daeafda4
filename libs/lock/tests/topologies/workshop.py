"""Locks that other languages have, as programs: each is built once a run, where its tools are.

Their sources and pinned dependencies are in ``peers``. Where the tools of one are missing, or what
it needs cannot be had, its tests are skipped, and say why; with PEERS_REQUIRED=1 they fail.
"""

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, Self

import pytest

SOURCES: Final = Path(__file__).parent / "peers"
# For all that has to be fetched and compiled: far more than two busy cores and a slow network need.
BUILD_SECONDS: Final = 300.0
# Other tests run meanwhile, and what they wait for has limits.
POLITELY: Final = ("nice", "-n", "10") if shutil.which("nice") else ()
# Far more than starting a program takes, a virtual machine's classes included.
START_SECONDS: Final = 60.0

Command = tuple[str, ...]


class Unavailable(Exception):
    """A peer cannot be run on this machine; the message says why."""


class Failed(ValueError):
    """The lock of a peer has refused, or could not do, what it was asked for."""


@dataclass(frozen=True)
class Program:
    """How a peer is made of what is in its folder, and how it is run."""

    folder: str
    # The programs that have to be on the PATH.
    tools: Command
    fetch: Command
    compile: Command | None
    run: Command
    seconds: float = BUILD_SECONDS

    def build(self, place: Path) -> Path:
        """Make it in a folder that several processes may share: the first one to come does.

        Raises:
            Unavailable: it cannot be made here.
        """
        if missing := [each for each in self.tools if shutil.which(each) is None]:
            raise Unavailable(f"{self.folder} needs {' and '.join(missing)} on the PATH")
        place.mkdir(parents=True, exist_ok=True)
        built, verdict = place / self.folder, place / f"{self.folder}.verdict"
        with (place / f"{self.folder}.lock").open("w") as mine:
            fcntl.flock(mine, fcntl.LOCK_EX)
            if not verdict.exists():
                verdict.write_text(self._make(built))
        if why := verdict.read_text():
            raise Unavailable(why)
        return built

    def _make(self, built: Path) -> str:
        """Why it could not be made: nothing if it was."""
        shutil.copytree(SOURCES / self.folder, built)
        deadline = time.monotonic() + self.seconds
        try:
            self._step(self.fetch, built, deadline)
            _compare(built, "jars.sha256", _jars)
            _compare(built, "packages.sha512", _packages)
            if self.compile:
                self._step(self.compile, built, deadline)
        except Unavailable as error:
            return str(error)
        return ""

    def _step(self, command: Command, built: Path, deadline: float) -> None:
        what = f"{self.folder} cannot be built: `{' '.join(command[:2])}`"
        process = subprocess.Popen(
            (*POLITELY, *command),
            cwd=built,
            # Go needs no C compiler then.
            env={**os.environ, "CGO_ENABLED": "0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(timeout=max(deadline - time.monotonic(), 0.0))
        except BaseException as error:
            # With all that it has started: a compiler would hold the pipe open.
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise Unavailable(f"{what} has not ended after {self.seconds:g} s") from error
            raise
        if process.returncode != 0:
            lines = [line.strip() for line in said.splitlines() if line.strip()]
            raise Unavailable(f"{what} says {' / '.join(lines[:3]) or 'nothing'}")


def _compare(built: Path, pins: str, came: Callable[[Path], dict[str, str]]) -> None:
    """Hold what was fetched against the hashes, before any of it is run."""
    if not (built / pins).exists():
        return
    lines = (built / pins).read_text().splitlines()
    wanted = {name: digest for digest, name in map(str.split, lines)}
    if other := sorted({name for name, _ in wanted.items() ^ came(built).items()}):
        what = pins.partition(".")[0]
        raise Unavailable(f"{built.name} is not made of the {what} that are pinned: {other}")


def _jars(built: Path) -> dict[str, str]:
    return {
        each.name: hashlib.sha256(each.read_bytes()).hexdigest()
        for each in (built / "jars").iterdir()
    }


def _packages(built: Path) -> dict[str, str]:
    """What npm has installed, and what each archive was found to be."""
    installed = json.loads((built / "node_modules/.package-lock.json").read_text())["packages"]
    return {
        path.removeprefix("node_modules/"): each["integrity"] for path, each in installed.items()
    }


REDSYNC: Final = Program(
    folder="redsync",
    tools=("go",),
    fetch=("go", "mod", "download"),
    # Nobody measures or debugs it: without optimizations it takes half of the time.
    compile=("go", "build", "-mod=readonly", "-gcflags=all=-N -l -dwarf=0", "-o", "peer", "."),
    run=("./peer",),
)
NODE_REDLOCK: Final = Program(
    folder="node-redlock",
    tools=("node", "npm"),
    # All that it needs is named with its version: nothing is resolved.
    fetch=(
        *("npm", "install", "--no-package-lock", "--ignore-scripts"),
        *("--no-audit", "--no-fund", "--loglevel=error"),
    ),
    compile=None,
    run=("node", "index.mjs"),
)
REDISSON: Final = Program(
    folder="redisson",
    tools=("java", "javac", "mvn"),
    fetch=("mvn", "-q", "-B", "-Dstyle.color=never", "dependency:copy-dependencies"),
    compile=("javac", "-cp", "jars/*", "-d", "classes", "Peer.java"),
    # It lives for some seconds: what pays off later only costs.
    run=("java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", "classes:jars/*", "Peer"),
)


@dataclass(frozen=True)
class Workshop:
    """Where peers are built, for all processes of a run."""

    place: Path

    def start(self, program: Program, *words: str) -> "Peer":
        """A peer with these arguments, built if it is not yet; the test ends without it."""
        try:
            built = program.build(self.place)
        except Unavailable as error:
            _without(str(error))
        return Peer([*program.run, *words], built)


def _without(why: str) -> NoReturn:
    if os.environ.get("PEERS_REQUIRED", "") not in {"", "0"}:
        pytest.fail(why)
    pytest.skip(why)


class Peer:
    """A program that says in a line what came of each line that it is told."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._command = command
        self._folder = folder
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, cwd=self._folder, stdin=PIPE, stdout=PIPE
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                assert await self._read() == {"ready": True}
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._end()

    async def ask(self, *words: str | int) -> Any:
        """What came of it.

        Raises:
            Failed: the lock has refused it.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write((json.dumps(words) + "\n").encode())
        said = await self._read()
        if "failed" in said:
            raise Failed(said["failed"])
        return said["result"]

    async def _read(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            # Not what a broken promise looks like.
            raise RuntimeError(f"{self._command[0]} has ended")
        said: dict[str, Any] = json.loads(line)
        return said

    async def _end(self) -> None:
        """It may be waiting for what never comes: it has nothing to clean up."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
