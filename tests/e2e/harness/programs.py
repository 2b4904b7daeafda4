"""Command-line programs, each call with a limit and an error that shows what was said."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Final

NEEDED: Final = ("docker", "kind", "helm", "kubectl")
WORTH_TELLING_SECONDS: Final = 3.0
SHOWN_CHARACTERS: Final = 160
ROOT: Final = Path(__file__).resolve().parents[3]

log = logging.getLogger(__name__)


class CommandFailed(Exception):
    """A program ended with an error, or not in time."""

    def __init__(self, command: Sequence[str], reason: str, output: str) -> None:
        super().__init__(f"{' '.join(command)}: {reason}\n{output.strip()}")
        self.output = output


def missing(programs: Sequence[str] = NEEDED) -> list[str]:
    """The programs that are not on the PATH."""
    return [program for program in programs if shutil.which(program) is None]


def run(
    *command: str,
    timeout_seconds: float,
    environment: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> str:
    """Run a program in the repository's root and return what it wrote to standard output.

    Args:
        command: The program and its arguments.
        timeout_seconds: After this long it is killed.
        environment: Variables to add to ours.
        stdin: What it reads.

    Raises:
        CommandFailed: It ended with an error or had to be killed; carries all of its output.
    """
    begun = time.monotonic()
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        said = b"".join(part for part in (late.stdout, late.stderr) if isinstance(part, bytes))
        raise CommandFailed(
            command, f"not done in {timeout_seconds} s", said.decode(errors="replace")
        ) from late
    seconds = time.monotonic() - begun
    if seconds >= WORTH_TELLING_SECONDS:
        log.info("%.0f s: %s", seconds, shorten(" ".join(command), SHOWN_CHARACTERS))
    if done.returncode != 0:
        raise CommandFailed(command, f"exit status {done.returncode}", done.stdout + done.stderr)
    return done.stdout
