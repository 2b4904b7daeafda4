"""The command line: ``devkit up`` and ``devkit demo``, called by the Makefile."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from devkit.demo import demo
from devkit.errors import DevkitError
from devkit.up import up

COMMANDS: dict[str, Callable[[Console, Path], None]] = {"up": up, "demo": demo}


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status: 0 done, 1 failed.

    Raises:
        KeyboardInterrupt: Interrupted while it was starting.
    """
    parser = argparse.ArgumentParser(prog="devkit", description="The shop on one machine.")
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(".shop"),
        help="where `up` keeps data and logs (default: %(default)s)",
    )
    chosen = parser.parse_args(arguments)
    console = Console(soft_wrap=True, highlight=False)
    try:
        COMMANDS[chosen.command](console, chosen.folder.resolve())
    except (DevkitError, OSError) as failure:
        print(f"devkit {chosen.command}: {failure}", file=sys.stderr)
        return 1
    return 0
