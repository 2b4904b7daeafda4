"""What can go wrong, each as one line that says what to do.

DevkitError
├── AlreadyRunning
├── DidNotStart
├── MissingTool
├── PortInUse
├── Unreachable
└── Unexpected
"""

from __future__ import annotations

from pathlib import Path


class DevkitError(Exception):
    """The root: shown to a person as it stands, without a traceback."""


class AlreadyRunning(DevkitError):
    """Another run holds the same folder."""


class DidNotStart(DevkitError):
    """A program ended, or did not answer in time; carries the last lines of its log."""

    def __init__(self, name: str, reason: str, *, log: Path, tail: str = "") -> None:
        quoted = "".join(f"\n  | {line}" for line in tail.splitlines())
        super().__init__(f"{name} {reason}. The log is {log}{':' if tail else '.'}{quoted}")


class MissingTool(DevkitError):
    """A program that is needed is not on this machine."""


class PortInUse(DevkitError):
    """Something else listens where a server of ours should."""


class Unreachable(DevkitError):
    """A server whose URL was given does not answer."""


class Unexpected(DevkitError):
    """The system answered something else than it promises."""
